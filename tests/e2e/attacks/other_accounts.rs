//! Instances of other accounts: whom the controller acts as is the administrator's word alone, and never a guess.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::{REGION, Scenario};

use crate::grants::{Rights, allowing, says_more_than_refused, stranger, with};
use crate::stage::{ASSOCIATE, DISASSOCIATE, Story, is_observed, message, reason, truth};

/// A role in another account that the controller's account may assume, and what is there.
struct Account {
    number: &'static str,
    role: String,
}

impl Account {
    fn new(s: &Scenario<'_>, number: &'static str, external_id: Option<&str>) -> Result<Self> {
        let role = json!({"account": number, "name": "bindings", "trustedAccounts": [world::ACCOUNT],
            "externalId": external_id});
        let made = s.sandbox().post("roles", &role)?;
        let role = made["roles"][0]["arn"].as_str().context("no role")?.to_owned();
        let profile = json!({"account": number, "region": REGION, "name": "theirs"});
        s.sandbox().add_profile(&profile)?;
        Ok(Self { number, role })
    }

    fn instance(&self, s: &Scenario<'_>, ids: &[&str]) -> Result<String> {
        let mut instance = json!({"account": self.number});
        if ids.is_empty() {
            instance["count"] = json!(1);
        } else {
            instance["ids"] = json!(ids);
        }
        Ok(s.sandbox().add_instances(&instance)?.remove(0))
    }

    fn profile(&self) -> String {
        format!("arn:aws:iam::{}:instance-profile/theirs", self.number)
    }

    /// A grant of the account's profile on these instances, as its role.
    fn grant(&self, instances: &[&str], external_id: Option<&str>) -> Value {
        let mut aws = json!({"assumeRoleArn": self.role});
        if let Some(external_id) = external_id {
            aws["externalId"] = json!(external_id);
        }
        json!({"instanceProfiles": [self.profile()], "instances": {"ids": instances}, "aws": aws})
    }

    fn profile_of(&self, s: &Scenario<'_>, instance: &str) -> Result<Value> {
        let number = self.number;
        let state =
            s.sandbox().get(&format!("state?account={number}&region={REGION}&instance={instance}"))?;
        Ok(state.pointer("/instances/0/profileArn").cloned().unwrap_or_default())
    }
}

#[test]
fn an_instance_of_another_account() -> Result<()> {
    let s = stranger("foreign")?;
    let account = Account::new(&s, "200000000001", Some("from-us-7"))?;
    let i = account.instance(&s, &[])?;
    s.grant("foreign", &account.grant(&[&i], Some("from-us-7")))?;
    s.bind("web", &i, &json!({"name": "theirs"}))?;
    let binding = s.is_carried_out("web")?;
    assert_eq!(binding["status"]["account"], account.number);
    assert_eq!(binding["status"]["desired"]["profileArn"], account.profile(), "resolved in that account");
    assert_eq!(account.profile_of(&s, &i)?, account.profile());
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(account.profile_of(&s, &i)?, Value::Null);
    assert_eq!(s.writes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    let session = format!("arn:aws:sts::{}:assumed-role/bindings/instance-role-controller", account.number);
    for write in s.sandbox().writes_in_any_role_to(&i)? {
        assert_eq!((&write.identity, write.account.as_str()), (&session, account.number));
    }
    let assumed: Vec<_> = s
        .sandbox()
        .calls_since(0)?
        .into_iter()
        .filter(|call| call.action == "AssumeRole" && call.params["RoleArn"] == account.role)
        .collect();
    assert!(!assumed.is_empty());
    for call in assumed {
        assert_eq!(call.params["RoleSessionName"], "instance-role-controller");
        assert_eq!(call.params["ExternalId"], "from-us-7");
        assert_eq!(
            call.params.get("SourceIdentity"),
            None,
            "it needs a permission that nobody was asked for"
        );
    }
    Ok(())
}

#[test]
fn a_source_identity_where_the_grant_asks_for_it() -> Result<()> {
    let s = stranger("traced")?;
    let number = "200000000009";
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{}:root", world::ACCOUNT)}, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}]});
    let role = json!({"account": number, "name": "bindings", "trust": trust});
    let role = s.sandbox().post("roles", &role)?["roles"][0]["arn"].as_str().context("no role")?.to_owned();
    s.sandbox().add_profile(&json!({"account": number, "region": REGION, "name": "theirs"}))?;
    let account = Account { number, role };
    let i = account.instance(&s, &[])?;
    let mut grant = account.grant(&[&i], None);
    grant["aws"]["sourceIdentity"] = json!("team-a");
    s.grant("traced", &grant)?;
    s.bind("web", &i, &json!({"name": "theirs"}))?;
    s.is_carried_out("web")?;
    let calls = s.sandbox().calls_since(0)?;
    let ours = |role: &Value| *role == account.role;
    let assumed = calls.iter().find(|call| call.params.get("RoleArn").is_some_and(ours));
    assert_eq!(assumed.context("not assumed")?.params["SourceIdentity"], "team-a");
    Ok(())
}

#[test]
fn grants_that_name_different_roles_are_told_and_not_chosen_from() -> Result<()> {
    let s = stranger("torn")?;
    let account = Account::new(&s, "200000000002", None)?;
    let i = account.instance(&s, &[])?;
    s.grant("first", &account.grant(&[&i], None))?;
    let stories = [
        (
            "another role",
            account.grant(&[&i], None),
            json!({"assumeRoleArn": "arn:aws:iam::200000000002:role/other"}),
        ),
        (
            "another external id",
            account.grant(&[&i], None),
            json!({"assumeRoleArn": account.role, "externalId": "other"}),
        ),
        ("the controller's own", account.grant(&[&i], None), Value::Null),
    ];
    for (n, (story, mut second, aws)) in stories.into_iter().enumerate() {
        if aws.is_null() {
            second.as_object_mut().map(|spec| spec.remove("aws"));
        } else {
            second["aws"] = aws;
        }
        let binding = format!("web-{n}");
        s.grant("second", &second)?;
        s.bind(&binding, &i, &json!({"arn": account.profile()}))?;
        let told = s.patiently(&binding, story, |found| {
            is_observed(found) && says_more_than_refused(found, "Conflict").is_empty()
        })?;
        assert!(message(&told).contains("first") && message(&told).contains("second"), "{}", message(&told));
        s.delete(&binding)?;
        s.vanishes(&binding)?;
        s.revoke("second")?;
    }
    assert_eq!(s.writes(&i)?, [""; 0]);
    assert_eq!(s.questions_about(&i)?, [], "nobody was asked in anybody's name");

    // Two that agree are as good as one.
    s.grant("second", &account.grant(&[&i], None))?;
    s.bind("web", &i, &json!({"arn": account.profile()}))?;
    s.is_carried_out("web")?;
    // And once they do not, all stays as it is.
    s.edit_grant("second", &json!({"aws": null}))?;
    s.reaches("web", "Conflict")?;
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    s.edit_grant("second", &json!({"aws": {"assumeRoleArn": account.role}}))?;
    s.is_carried_out("web")?;
    Ok(())
}

#[test]
fn a_role_that_cannot_be_assumed_is_the_trouble_of_its_own_bindings_alone() -> Result<()> {
    let s = stranger("locked")?;
    let account = Account::new(&s, "200000000003", Some("the-right-one"))?;
    let (i, j) = (account.instance(&s, &[])?, account.instance(&s, &[])?);
    s.sandbox().profile("locked-own")?;
    let own = s.sandbox().instance("running", None)?;
    s.grant("wrong-id", &account.grant(&[&i], Some("the-wrong-one")))?;
    let mut absent = account.grant(&[&j], None);
    absent["aws"]["assumeRoleArn"] = json!("arn:aws:iam::200000000003:role/absent");
    s.grant("absent", &absent)?;
    s.grant("own", &with(allowing(&["locked-own"]), "instances", json!({"ids": [own]})))?;
    s.bind("wrong-id", &i, &json!({"name": "theirs"}))?;
    s.bind("absent", &j, &json!({"name": "theirs"}))?;
    for (binding, role) in
        [("wrong-id", account.role.as_str()), ("absent", "arn:aws:iam::200000000003:role/absent")]
    {
        let told = s.reaches(binding, "RoleNotAssumable")?;
        assert_eq!(truth(&told, "Stalled"), "True");
        assert!(message(&told).contains(role), "{}", message(&told));
        for secret in ["the-wrong-one", "the-right-one"] {
            assert!(!told["status"].to_string().contains(secret), "the external id is the administrator's");
        }
    }
    // Meanwhile everybody else goes on.
    s.bind("own", &own, &json!({"name": "locked-own"}))?;
    s.is_carried_out("own")?;
    s.sandbox().drift(&own, None)?;
    s.passes(2)?;
    s.carries(&own, Some("arn:aws:iam::123456789012:instance-profile/locked-own"))?;
    assert_eq!((s.writes(&i)?, s.writes(&j)?), (Vec::new(), Vec::new()));

    s.grant("wrong-id", &account.grant(&[&i], Some("the-right-one")))?;
    s.is_carried_out("wrong-id")?;
    s.delete("absent")?;
    s.vanishes("absent")?;
    assert_eq!(account.profile_of(&s, &i)?, account.profile());
    Ok(())
}

#[test]
fn the_same_id_in_two_accounts_is_two_instances() -> Result<()> {
    let (ours, theirs) = (stranger("ours")?, stranger("theirs")?);
    let account = Account::new(&ours, "200000000004", None)?;
    let i = ours.sandbox().instance("running", None)?;
    account.instance(&ours, &[&i])?;
    ours.sandbox().profile("twin-ours")?;
    ours.grant("own", &with(allowing(&["twin-ours"]), "instances", json!({"ids": [i]})))?;
    theirs.grant("own", &account.grant(&[&i], None))?;
    theirs.bind("web", &i, &json!({"name": "theirs"}))?;
    theirs.is_carried_out("web")?;
    crate::stage::a_second_later()?;
    ours.bind("web", &i, &json!({"name": "twin-ours"}))?;
    let binding = ours.is_carried_out("web")?;
    assert_eq!(reason(&binding), "Associated", "no Conflict with what is elsewhere");
    assert_eq!(account.profile_of(&theirs, &i)?, account.profile());
    theirs.delete("web")?;
    theirs.vanishes("web")?;
    assert_eq!(account.profile_of(&theirs, &i)?, Value::Null);
    assert_eq!(
        ours.sandbox().profile_of(&i)?.as_deref(),
        Some("arn:aws:iam::123456789012:instance-profile/twin-ours")
    );
    Ok(())
}

#[test]
fn a_profile_of_one_account_is_not_for_instances_of_another() -> Result<()> {
    let s = stranger("mixed")?;
    let account = Account::new(&s, "200000000005", None)?;
    let i = account.instance(&s, &[])?;
    let app = s.sandbox().profile("mixed-app")?;
    // The grant names a profile of our account, and acts in theirs.
    let mut spec = account.grant(&[&i], None);
    spec["instanceProfiles"] = json!([app, "theirs"]);
    s.grant("mixed", &spec)?;
    s.bind("web", &i, &json!({"arn": app}))?;
    s.reaches("web", "ProfileNotFound")?;
    s.passes(1)?;
    assert_eq!(s.writes(&i)?, [""; 0]);
    // By name it is theirs: nobody else's could be meant.
    s.delete("web")?;
    s.vanishes("web")?;
    s.bind("named", &i, &json!({"name": "theirs"}))?;
    s.is_carried_out("named")?;
    assert_eq!(account.profile_of(&s, &i)?, account.profile());
    Ok(())
}

#[test]
fn a_binding_whose_grant_begins_to_act_elsewhere_does_not_move() -> Result<()> {
    let s = stranger("moves")?;
    let account = Account::new(&s, "200000000006", None)?;
    let app = s.sandbox().profile("theirs")?;
    let i = s.sandbox().instance("running", None)?;
    // In the other account there is an instance of the same id.
    account.instance(&s, &[&i])?;
    let names = json!({"instanceProfiles": ["theirs"], "instances": {"ids": [i]}});
    s.grant("own", &names)?;
    s.bind("web", &i, &json!({"name": "theirs"}))?;
    s.is_carried_out("web")?;
    s.edit_grant("own", &json!({"aws": {"assumeRoleArn": account.role}}))?;
    let told = s.reaches("web", "RegionChanged")?;
    assert_eq!(truth(&told, "Stalled"), "True");
    s.passes(2)?;
    assert_eq!(
        account.profile_of(&s, &i)?,
        Value::Null,
        "what it did in one account it does not do in another"
    );
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}
