//! Describe: filters, pages, lag.

use super::*;

fn filter(name: &str, values: &[&str]) -> Filter {
    Filter { name: name.to_owned(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn describe(story: &mut Story, filters: Vec<Filter>) -> Result<DescribedAssociations, ApiError> {
    let request = DescribeAssociations { filters, ..DescribeAssociations::default() };
    story.world.describe_associations(T, &story.scope, &request)
}

#[test]
fn filters_of_associations_are_checked_to_the_letter() {
    let mut story = Story::with("running", Some("app"));
    for (filter, message) in [
        (filter("association-id", &["x"]), "An unknown filter 'association-id' was given"),
        (filter("tag:Name", &["x"]), "An unknown filter 'tag:Name' was given"),
        (
            filter("state", &["disassociated"]),
            "Only 'associated', 'associating' and 'disassociating' are allowed",
        ),
        (filter("state", &["gone"]), "A filter for an unknown association state of 'gone' was given"),
        (filter("instance-id", &["i-*"]), "A filter with an invalid instance-id of 'i-*' was given"),
        (filter("instance-id", &[]), "The filter 'instance-id' must contain at least one value."),
    ] {
        let refused = describe(&mut story, vec![filter]).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("InvalidParameterValue", message));
    }
}

#[test]
fn one_malformed_id_fails_the_batch_and_unknown_ids_are_absent() {
    let mut story = Story::with("running", Some("app"));
    assert!(describe(&mut story, vec![filter("instance-id", &[ID, "i-00000000000000000"])]).is_err());
    let found = describe(&mut story, vec![filter("instance-id", &[ID, "i-0fedcba9876543210"])]).unwrap();
    assert_eq!(found.rows.len(), 1);
}

#[test]
fn filters_apply_together() {
    let mut story = Story::with("running", Some("app"));
    let here = filter("instance-id", &[ID]);
    let associated = describe(&mut story, vec![here.clone(), filter("state", &["associated"])]).unwrap();
    assert_eq!(associated.rows.len(), 1);
    let associating = describe(&mut story, vec![here, filter("state", &["associating"])]).unwrap();
    assert_eq!(associating.rows.len(), 0);
}

#[test]
fn more_than_two_hundred_values_are_too_many() {
    let mut story = Story::running();
    let ids: Vec<String> = (1..=201).map(|number| format!("i-{number:017x}")).collect();
    let values: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(describe(&mut story, vec![filter("instance-id", &values[..200])]).is_ok());
    assert_eq!(code(describe(&mut story, vec![filter("instance-id", &values)])), "FilterLimitExceeded");
    let one_more = vec![filter("instance-id", &values[..200]), filter("state", &["associated"])];
    assert_eq!(code(describe(&mut story, one_more)), "FilterLimitExceeded");
}

#[test]
fn association_ids_are_looked_up_or_refused() {
    let mut story = Story::with("running", Some("app"));
    let row = story.row_id(T);
    let mut ask = |id: &str| {
        let request = DescribeAssociations { ids: vec![id.to_owned()], ..DescribeAssociations::default() };
        story.world.describe_associations(T, &story.scope, &request)
    };
    assert_eq!(ask(&row).unwrap().rows.len(), 1);
    assert_eq!(code(ask("iip-assoc-0fedcba9876543210")), "InvalidAssociationID.NotFound");
    assert_eq!(code(ask("iip-assoc-00000000000000000")), "InvalidParameterValue");
}

#[test]
fn pages_hold_every_row_once_and_their_token_fits_no_other_listing() {
    let mut story = Story::running();
    let seed = json!({"region": REGION, "count": 25, "profile": "app"});
    story.world.seed_instances(0, &from(seed)).unwrap();
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let request =
            DescribeAssociations { max_results: Some(10), token, ..DescribeAssociations::default() };
        let page = story.world.describe_associations(T, &story.scope, &request).unwrap();
        seen.extend(page.rows.into_iter().map(|row| row.id));
        token = page.token;
        if token.is_none() {
            break;
        }
        let stranger = DescribeAssociations {
            filters: vec![filter("state", &["associated"])],
            token: token.clone(),
            ..DescribeAssociations::default()
        };
        assert_eq!(code(story.world.describe_associations(T, &story.scope, &stranger)), "InvalidNextToken");
    }
    assert_eq!(seen.len(), 25);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
}

#[test]
fn any_positive_page_size_is_accepted() {
    let mut story = Story::with("running", Some("app"));
    for (size, fine) in [(1, true), (1001, true), (0, false), (-1, false)] {
        let request = DescribeAssociations { max_results: Some(size), ..DescribeAssociations::default() };
        let result = story.world.describe_associations(T, &story.scope, &request);
        assert_eq!(result.is_ok(), fine, "{size}");
    }
}

#[test]
fn a_lagging_read_shows_the_past_exactly() {
    let mut story = Story::with("running", Some("app"));
    story.world.settings.read_lag_ms = 1000;
    let row = story.row_id(T);
    story.disassociate(T, &row).unwrap();
    assert_eq!(story.rows(T + 999), [("app".to_owned(), AssociationState::Associated)]);
    assert_eq!(story.rows(T + 1000), [("app".to_owned(), AssociationState::Disassociating)]);
    assert_eq!(story.rows(T + 1300), []);
    assert_eq!(code(story.disassociate(T + 400, &row)), "InvalidAssociationID.NotFound");
}

#[test]
fn describe_instances_still_says_running_right_after_a_stop() {
    let mut story = Story::running();
    story.world.settings.instances_lag_ms = 250;
    story.world.stop_instances(T, &story.scope, &[ID.to_owned()], false).unwrap();
    assert_eq!(story.shown(T + 200).0, InstanceState::Running);
    assert_eq!(story.shown(T + 250).0, InstanceState::Stopping);
    assert_eq!(story.shown(T + 450).0, InstanceState::Stopped);
}

#[test]
fn instances_are_found_by_state_tag_and_profile() {
    let mut story = Story::with("running", Some("other"));
    let tagged = Forced { tags: Some(from(json!({"env": "prod"}))), ..Forced::default() };
    story.world.force(T, "123456789012", REGION, ID, &tagged).unwrap();
    for (filter, found) in [
        (filter("instance-state-name", &["running"]), true),
        (filter("instance-state-name", &["stopped"]), false),
        (filter("tag:env", &["prod"]), true),
        (filter("tag:env", &["pr*"]), true),
        (filter("tag:env", &["dev"]), false),
        (filter("tag-key", &["env"]), true),
        (
            filter("iam-instance-profile.arn", &["arn:aws:iam::123456789012:instance-profile/team/other"]),
            true,
        ),
        (filter("iam-instance-profile.arn", &["arn:aws:iam::123456789012:instance-profile/other"]), false),
    ] {
        let request = DescribeInstances { filters: vec![filter.clone()], ..DescribeInstances::default() };
        let described = story.world.describe_instances(T, &story.scope, &request).unwrap();
        assert_eq!(described.instances.len() == 1, found, "{filter:?}");
    }
    let unknown =
        DescribeInstances { filters: vec![filter("vpc-id", &["x"])], ..DescribeInstances::default() };
    assert_eq!(code(story.world.describe_instances(T, &story.scope, &unknown)), "InvalidParameterValue");
}

#[test]
fn one_unknown_instance_id_fails_the_whole_call() {
    let mut story = Story::running();
    let ids = vec![ID.to_owned(), "i-0fedcba9876543210".to_owned()];
    let request = DescribeInstances { ids, ..DescribeInstances::default() };
    assert_eq!(code(story.world.describe_instances(T, &story.scope, &request)), "InvalidInstanceID.NotFound");
}

#[test]
fn listing_a_hundred_thousand_instances_takes_pages_not_scans() {
    let mut story = Story::running();
    let seed = json!({"region": REGION, "count": 100_000, "profile": "app"});
    story.world.seed_instances(0, &from(seed)).unwrap();
    let (mut pages, mut rows, mut token) = (0, 0, None);
    loop {
        let request =
            DescribeAssociations { max_results: Some(1000), token, ..DescribeAssociations::default() };
        let page = story.world.describe_associations(T, &story.scope, &request).unwrap();
        (pages, rows, token) = (pages + 1, rows + page.rows.len(), page.token);
        if token.is_none() {
            break;
        }
    }
    assert_eq!((pages, rows), (100, 100_000));
}
