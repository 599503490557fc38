//! Who may do what, and who is who.

use super::*;

const USER: &str = "arn:aws:iam::123456789012:user/ME";

fn allow(story: &mut Story, statements: Value) {
    story.world.attach_policy(USER, &json!({"Version": "2012-10-17", "Statement": statements})).unwrap();
}

/// The least-privilege policy of aws-semantics 3.2.
fn least(story: &mut Story) {
    let instances = "arn:aws:ec2:eu-west-1:123456789012:instance/*";
    allow(
        story,
        json!([
            {"Effect": "Allow", "Action": ["ec2:DescribeIamInstanceProfileAssociations", "ec2:DescribeInstances"],
             "Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}},
            {"Effect": "Allow",
             "Action": ["ec2:AssociateIamInstanceProfile", "ec2:ReplaceIamInstanceProfileAssociation"],
             "Resource": instances,
             "Condition": {"ArnLike": {"ec2:NewInstanceProfile": "arn:aws:iam::123456789012:instance-profile/team/*"},
                           "StringEquals": {"aws:ResourceTag/iam-managed": "true"}}},
            {"Effect": "Allow", "Action": "ec2:DisassociateIamInstanceProfile", "Resource": instances,
             "Condition": {"ArnLike": {"ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/team/*"}}},
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/team/*",
             "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"},
                           "ArnLike": {"iam:AssociatedResourceArn": instances}}}]),
    );
}

fn tag(story: &mut Story, value: &str) {
    let tags = Forced { tags: Some(from(json!({"iam-managed": value}))), ..Forced::default() };
    story.world.force(T, "123456789012", REGION, ID, &tags).unwrap();
}

#[test]
fn the_least_privilege_policy_lets_through_what_it_names_and_nothing_else() {
    let mut story = Story::running();
    least(&mut story);
    assert_eq!(code(story.associate(T, "other")), "UnauthorizedOperation");
    tag(&mut story, "true");
    assert_eq!(code(story.associate(T, "app")), "UnauthorizedOperation");
    let row = story.associate(T, "other").unwrap().id;
    assert!(story.disassociate(T + 300, &row).is_ok());
    let change = Forced { profile: Some(Some("app".to_owned())), ..Forced::default() };
    story.world.force(T + 600, "123456789012", REGION, ID, &change).unwrap();
    let foreign = story.row_id(T + 600);
    assert_eq!(code(story.disassociate(T + 600, &foreign)), "UnauthorizedOperation");
}

#[test]
fn a_denial_names_principal_action_resource_and_reason() {
    let mut story = Story::running();
    allow(&mut story, json!({"Effect": "Allow", "Action": "iam:*", "Resource": "*"}));
    let denied = story.associate(T, "app").unwrap_err();
    assert_eq!(denied.status, 403);
    let expected = format!(
        "You are not authorized to perform this operation. User: {USER} is not authorized to perform: \
         ec2:AssociateIamInstanceProfile on resource: arn:aws:ec2:eu-west-1:123456789012:instance/{ID} because no \
         identity-based policy allows the ec2:AssociateIamInstanceProfile action. Encoded authorization failure \
         message: "
    );
    assert!(denied.message.starts_with(&expected), "{}", denied.message);
}

#[test]
fn passing_the_role_is_asked_for_attaching_and_not_for_detaching() {
    let mut story = Story::with("running", Some("app"));
    let row = story.row_id(T);
    allow(&mut story, json!({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}));
    let denied = story.replace(T, &row, "other").unwrap_err();
    assert_eq!(denied.code, "UnauthorizedOperation");
    let passing =
        "not authorized to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/team/other";
    assert!(denied.message.contains(passing), "{}", denied.message);
    assert!(story.replace(T, &row, "empty").is_ok());
    let row = story.row_id(T + 300);
    assert!(story.disassociate(T + 300, &row).is_ok());
}

#[test]
fn pass_role_is_about_all_instances_never_about_one() {
    for (pattern, allowed) in [
        ("arn:aws:ec2:eu-west-1:123456789012:instance/*".to_owned(), true),
        ("arn:aws:ec2:*:123456789012:instance/*".to_owned(), true),
        (format!("arn:aws:ec2:eu-west-1:123456789012:instance/{ID}"), false),
    ] {
        let mut story = Story::running();
        allow(
            &mut story,
            json!([{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
                {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*",
                 "Condition": {"ArnLike": {"iam:AssociatedResourceArn": pattern}}}]),
        );
        assert_eq!(story.associate(T, "app").is_ok(), allowed, "{pattern}");
    }
}

#[test]
fn syntax_comes_before_authorization_and_dry_runs_after_it() {
    let mut story = Story::with("running", Some("app"));
    let spec = ProfileSpec::of("app");
    let mut dry = |id: &str| code(story.world.associate(T, &story.scope, id, &spec, true));
    assert_eq!(dry(ID), "DryRunOperation");
    assert_eq!(dry("i-00000000000000000"), "InvalidInstanceID.Malformed");
    allow(&mut story, json!({"Effect": "Deny", "Action": "*", "Resource": "*"}));
    let mut dry = |id: &str| code(story.world.associate(T, &story.scope, id, &spec, true));
    assert_eq!(dry(ID), "UnauthorizedOperation");
    assert_eq!(dry("i-00000000000000000"), "InvalidInstanceID.Malformed");
}

#[test]
fn the_account_is_in_the_key() {
    let world = World::new(Settings::default());
    for (key, region, arn) in [
        ("AKIA210987654321BOB", "eu-west-1", "arn:aws:iam::210987654321:user/BOB"),
        ("AKIA210987654321", "eu-west-1", "arn:aws:iam::210987654321:root"),
        ("test", "us-east-1", "arn:aws:iam::123456789012:user/test"),
        ("AKIA210987654321BOB", "cn-north-1", "arn:aws-cn:iam::210987654321:user/BOB"),
    ] {
        assert_eq!(world.identify(0, "ec2", region, key, None).unwrap().caller.arn, arn);
    }
}

#[test]
fn a_role_is_assumed_only_by_whom_it_trusts_and_with_its_external_id() {
    let mut story = Story::running();
    let trust = json!({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Condition": {"StringEquals": {"sts:ExternalId": "secret"}}}]});
    let other = Scope::of_account("210987654321", REGION);
    story.world.create_role(0, &other, "ops", "/", &trust.to_string()).unwrap();
    let ask = |external_id: Option<&str>| AssumeRole {
        role_arn: "arn:aws:iam::210987654321:role/ops".to_owned(),
        session_name: "session".to_owned(),
        external_id: external_id.map(str::to_owned),
        ..AssumeRole::default()
    };
    assert_eq!(code(story.world.assume_role(T, &story.scope, &ask(None))), "AccessDenied");
    assert_eq!(code(story.world.assume_role(T, &story.scope, &ask(Some("guess")))), "AccessDenied");
    let session = story.world.assume_role(T, &story.scope, &ask(Some("secret"))).unwrap();
    let identify = |world: &World, now, token: Option<&str>| {
        world.identify(now, "ec2", REGION, &session.access_key, token).map(|scope| scope.account)
    };
    assert_eq!(identify(&story.world, T, Some(&session.token)).unwrap(), "210987654321");
    assert_eq!(code(identify(&story.world, T, None)), "AuthFailure");
    assert_eq!(code(identify(&story.world, T + 3_600_000, Some(&session.token))), "RequestExpired");
    let session = story.world.assume_role(T, &story.scope, &ask(Some("secret"))).unwrap();
    story.world.set_credentials(T, "arn:aws:iam::210987654321:role/ops", "expired").unwrap();
    let sts = story.world.identify(T, "sts", REGION, &session.access_key, Some(&session.token));
    assert_eq!(code(sts), "ExpiredToken");
}
