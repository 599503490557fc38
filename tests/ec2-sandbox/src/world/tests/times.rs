//! Launches, lifecycles and propagation.

use super::*;

fn launch(story: &mut Story, profile: Option<&str>) -> Vec<InstanceView> {
    let request = LaunchRequest {
        image_id: "ami-1".to_owned(),
        instance_type: "t3.nano".to_owned(),
        min: 2,
        max: 2,
        profile: profile.map(ProfileSpec::of),
        client_token: Some("once".to_owned()),
        ..LaunchRequest::default()
    };
    story.world.run_instances(T, &story.scope, &request).unwrap()
}

#[test]
fn every_instance_of_a_launch_gets_the_profile() {
    let mut story = Story::running();
    let launched = launch(&mut story, Some("app"));
    assert_eq!(launched.len(), 2);
    assert!(launched.iter().all(|instance| instance.state == InstanceState::Pending));
    let app = ("app".to_owned(), AssociationState::Associating);
    assert_eq!(story.rows(T + 499), [app.clone(), app]);
    let app = ("app".to_owned(), AssociationState::Associated);
    assert_eq!(story.rows(T + 500), [app.clone(), app]);
}

#[test]
fn the_same_client_token_launches_once() {
    let mut story = Story::running();
    let first: Vec<_> = launch(&mut story, None).into_iter().map(|instance| instance.id).collect();
    let second: Vec<_> = launch(&mut story, None).into_iter().map(|instance| instance.id).collect();
    assert_eq!(first, second);
}

#[test]
fn a_new_profile_is_unknown_to_ec2_until_it_has_propagated() {
    let mut story = Story::running();
    story.world.settings.propagation_ms = 10_000;
    let arn = story.world.create_profile(T, &story.scope, "new", "/").unwrap().arn;
    let by_name = story.associate(T + 9_999, "new").unwrap_err();
    let message =
        "Value (new) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
    assert_eq!((by_name.code.as_str(), by_name.message.as_str()), ("InvalidParameterValue", message));
    let by_arn = story.associate(T + 9_999, &arn).unwrap_err();
    assert!(
        by_arn
            .message
            .ends_with("for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN")
    );
    assert!(story.associate(T + 10_000, "new").is_ok());
}

#[test]
fn profiles_are_named_exactly_and_the_arn_wins() {
    let mut story = Story::running();
    for wrong in ["APP", "nosuch", "arn:aws:iam::123456789012:instance-profile/other"] {
        assert_eq!(code(story.associate(T, wrong)), "InvalidParameterValue", "{wrong}");
    }
    let both = ProfileSpec {
        arn: Some("arn:aws:iam::123456789012:instance-profile/team/other".to_owned()),
        name: Some("app".to_owned()),
    };
    let row = story.world.associate(T, &story.scope, ID, &both, false).unwrap();
    assert_eq!(name_of(&row.profile.arn), "other");
    let neither = story.world.associate(T, &story.scope, ID, &ProfileSpec::default(), false);
    assert_eq!(code(neither), "MissingParameter");
}

#[test]
fn iam_names_are_unique_ignoring_case_and_answered_as_created() {
    let mut story = Story::running();
    assert_eq!(code(story.world.create_profile(T, &story.scope, "APP", "/x/")), "EntityAlreadyExists");
    assert_eq!(story.world.get_profile(&story.scope, "aPP").unwrap().name, "app");
    assert_eq!(code(story.world.get_profile(&story.scope, "nosuch")), "NoSuchEntity");
    assert_eq!(code(story.world.add_role(&story.scope, "app", "other")), "LimitExceeded");
    assert_eq!(code(story.world.delete_profile(&story.scope, "app")), "DeleteConflict");
    assert_eq!(code(story.world.delete_role(&story.scope, "app")), "DeleteConflict");
}

#[test]
fn profiles_are_listed_by_path_and_page() {
    let mut story = Story::running();
    let names = |page: &ProfilePage| page.profiles.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let team = story.world.list_profiles(&story.scope, "/team/", None, None).unwrap();
    assert_eq!(names(&team), ["other"]);
    assert_eq!(team.profiles[0].role.as_ref().unwrap().name, "other");
    let first = story.world.list_profiles(&story.scope, "/", Some(3), None).unwrap();
    assert_eq!(names(&first), ["app", "broken", "empty"]);
    let marker = first.marker.unwrap();
    let second = story.world.list_profiles(&story.scope, "/", Some(3), Some(&marker)).unwrap();
    assert_eq!((names(&second), second.marker), (vec!["other".to_owned()], None));
    assert_eq!(code(story.world.list_profiles_for_role(&story.scope, "nosuch", None, None)), "NoSuchEntity");
}

#[test]
fn a_terminated_instance_is_listed_for_a_while() {
    let mut story = Story::running();
    story.world.settings.tombstone_ms = 5_000;
    story.world.terminate_instances(T, &story.scope, &[ID.to_owned()], false).unwrap();
    assert_eq!(story.shown(T + 5_199).0, InstanceState::Terminated);
    let request = DescribeInstances { ids: vec![ID.to_owned()], ..DescribeInstances::default() };
    let gone = story.world.describe_instances(T + 5_200, &story.scope, &request);
    assert_eq!(code(gone), "InvalidInstanceID.NotFound");
    assert_eq!(code(story.associate(T + 5_200, "app")), "InvalidInstanceID.NotFound");
}

#[test]
fn instances_start_and_stop_only_from_where_they_can() {
    let mut story = Story::running();
    let ids = [ID.to_owned()];
    story.world.stop_instances(T, &story.scope, &ids, false).unwrap();
    assert_eq!(code(story.world.start_instances(T, &story.scope, &ids, false)), "IncorrectInstanceState");
    assert!(story.world.start_instances(T + 200, &story.scope, &ids, false).is_ok());
    assert_eq!(
        code(story.world.stop_instances(T + 200, &story.scope, &ids, false)),
        "IncorrectInstanceState"
    );
}

#[test]
fn tags_come_and_go() {
    let mut story = Story::running();
    let ids = [ID.to_owned()];
    let tags = from(json!({"a": "1", "b": "2"}));
    story.world.create_tags(T, &story.scope, &ids, &tags, false).unwrap();
    let reserved = from(json!({"aws:x": "1"}));
    assert_eq!(
        code(story.world.create_tags(T, &story.scope, &ids, &reserved, false)),
        "InvalidParameterValue"
    );
    story.world.delete_tags(T, &story.scope, &ids, &[("a".to_owned(), Some("9".to_owned()))], false).unwrap();
    story.world.delete_tags(T, &story.scope, &ids, &[("b".to_owned(), None)], false).unwrap();
    let left = story.world.truth(T, None, None, Some(ID));
    assert_eq!(*left[0].tags, from(json!({"a": "1"})));
}
