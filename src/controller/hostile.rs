//! Objects as others may have written them. A status is a note that anybody with the right to it may forge; a spec may have been
//! stored before the rules that would refuse it now.
//!
//! None of it ends the process or the watch, and none of it justifies a write: not of a profile that no grant covers, not on an
//! association that EC2 does not show, and not to leave an instance bare where no grant lets it be.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::context::Settings;
use super::gather::{self, Facts};
use super::kept::Watched;
use crate::api::binding::{DeletionPolicy, Mode};
use crate::api::{InstanceRoleBinding, InstanceRoleGrant};
use crate::decide::{
    Association, AssociationState, Grade, Grant, Instance, Observed, Place, ProfileRef, Resolution,
    Restraint, Rights, Rows, Standing, Step, Target, View, Write,
};
use crate::ids::{AccountId, AssociationId, ProfileArn, Region};

const APP: &str = "arn:aws:iam::123456789012:instance-profile/app";
const OLD: &str = "arn:aws:iam::123456789012:instance-profile/old";
const ADMIN: &str = "arn:aws:iam::123456789012:instance-profile/admin";
const NOON: i64 = 1_800_000_000;

/// Words that would be good to have believed, and words that are good for nothing.
fn any_word() -> impl Strategy<Value = String> {
    let words = vec![
        APP,
        OLD,
        ADMIN,
        "none",
        "app",
        "admin",
        "",
        "*",
        "i-0123456789abcdef0",
        "iip-assoc-1",
        "associated",
        "eu-west-1",
        "us-east-1",
        "123456789012",
        "999999999999",
        "True",
        "False",
        "Ready",
        "Synced",
        "DriftDetected",
        "Detach",
        "Restore",
        "Enforce",
        "Associated",
        "AssociateIamInstanceProfile",
        "ReplaceIamInstanceProfileAssociation",
        "DisassociateIamInstanceProfile",
        "2027-01-15T08:00:00Z",
        "2027-01-15T07:59:58Z",
        "9999-12-31T23:59:59Z",
        "-9999-01-01T00:00:00Z",
        "0000-00-00",
        "\u{0}",
        "../..",
    ];
    prop_oneof![12 => select(words).prop_map(str::to_owned), 1 => ".{0,40}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any_word().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any_word(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object with some of these members, each as it should be made, and now and then anything else.
fn some_of(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let most = members.len();
    (subsequence(members, 0..=most), proptest::bool::weighted(0.05))
        .prop_flat_map(|(members, torn)| {
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| {
                    let value = if torn { any_json().boxed() } else { value };
                    value.prop_map(move |value| (name.to_owned(), value))
                })
                .collect();
            members.prop_map(|members| Value::Object(members.into_iter().collect()))
        })
        .boxed()
}

fn word() -> BoxedStrategy<Value> {
    any_word().prop_map(Value::from).boxed()
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(words).prop_map(Value::from).boxed()
}

fn profile() -> BoxedStrategy<Value> {
    one_of(&[APP, OLD, ADMIN, "none", "app"])
}

fn truth() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn time() -> BoxedStrategy<Value> {
    one_of(&[
        "2027-01-15T07:59:58Z",
        "2027-01-15T07:00:00Z",
        "2027-01-15T08:00:03Z",
        "2031-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
    ])
}

fn list(of: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(of, 0..=most).prop_map(Value::from).boxed()
}

const OPERATIONS: &[&str] = &[
    "AssociateIamInstanceProfile",
    "ReplaceIamInstanceProfileAssociation",
    "DisassociateIamInstanceProfile",
];

/// A status that somebody made up.
fn any_status() -> impl Strategy<Value = Value> {
    let either = || some_of(vec![("profileArn", profile()), ("none", truth())]);
    let change = (
        (one_of(OPERATIONS), profile(), profile(), time()),
        some_of(vec![("then", profile()), ("requestId", word())]),
    )
        .prop_map(|((operation, from, to, at), mut more)| {
            for (name, value) in [("operation", operation), ("from", from), ("to", to), ("at", at)] {
                if let Some(members) = more.as_object_mut() {
                    members.insert(name.to_owned(), value);
                }
            }
            more
        })
        .boxed();
    let condition = (one_of(&["Ready", "Synced", "Authorized", "Stalled", "Other"]), one_of(&["True", "False", "Unknown", ""]), word(), time())
        .prop_map(|(kind, status, reason, at)| {
            json!({"type": kind, "status": status, "reason": reason, "message": "forged", "lastTransitionTime": at, "observedGeneration": 1})
        })
        .boxed();
    let plan = (one_of(OPERATIONS), one_of(&["Declared", "DriftDetected", "Deleted"]))
        .prop_map(|(operation, reason)| json!({"operation": operation, "reason": reason}))
        .boxed();
    let forged = some_of(vec![
        ("observedGeneration", select(vec![-1, 0, 1, 2]).prop_map(Value::from).boxed()),
        ("region", one_of(&["eu-west-1", "eu-west-1", "eu-west-1", "us-east-1", "Ireland"])),
        ("account", one_of(&["123456789012", "123456789012", "123456789012", "999999999999", "x"])),
        ("mode", one_of(&["Enforce", "Observe"])),
        ("deletionPolicy", one_of(&["Detach", "Restore", "Retain"])),
        ("profile", word()),
        ("desired", either()),
        (
            "observed",
            some_of(vec![("profileArn", profile()), ("associationId", word()), ("associationState", word())]),
        ),
        ("previous", either()),
        ("adopted", truth()),
        ("changes", list(change, 5)),
        ("plan", list(plan, 2)),
        ("grant", word()),
        ("lastHandledRequestedAt", word()),
        ("conditions", list(condition, 5)),
    ]);
    prop_oneof![9 => forged, 1 => any_json()]
}

fn object(status: Value, deletion: &str, leaving: bool) -> Value {
    let mut object = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
        "metadata": {"name": "web", "namespace": "team-a", "uid": "u-1", "generation": 1,
            "creationTimestamp": "2027-01-15T06:00:00Z", "finalizers": ["instancerole.dev/association"]},
        "spec": {"instanceId": "i-0123456789abcdef0", "instanceProfile": {"name": "app"}, "deletionPolicy": deletion},
        "status": status,
    });
    if leaving {
        object["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:00Z");
    }
    object
}

fn settings() -> Settings {
    Settings {
        resync: std::time::Duration::from_secs(60),
        dry_run: false,
        default_mode: Mode::Enforce,
        default_deletion_policy: DeletionPolicy::Detach,
        share: 0.5,
        limits: HashMap::new(),
        concurrency: 1,
        namespaces: Vec::new(),
        selector: None,
        required_tag: None,
        ceiling: None,
        self_instance: None,
    }
}

fn grant(profiles: &[&str], allow_none: bool) -> Arc<Grant> {
    let spec = json!({"namespaces": {"names": ["team-a"]}, "instanceProfiles": profiles, "allowNone": allow_none, "instances": {"regions": ["eu-west-1"]}});
    Arc::new(Grant::parse("g", &serde_json::from_value(spec).unwrap()).unwrap())
}

fn arn(text: &str) -> ProfileArn {
    ProfileArn::parse(text).unwrap()
}

/// What EC2 shows: one association at most, as it was looked up just now.
fn observed(carried: Option<&str>, state: &str) -> Observed {
    let at = Timestamp::from_second(NOON).unwrap();
    let row = carried.map(|profile| Association {
        id: AssociationId::parse("iip-assoc-shown").unwrap(),
        profile: arn(profile),
        profile_id: None,
        state: AssociationState::Associated,
        since: at,
    });
    let instance = Instance::Present { state: state.into(), managed: false, tags: Default::default() };
    let view = View { rows: Rows::of(row), grade: Grade::Settled, began: at, ended: at };
    Observed { view: Some(view), instance: Some(instance.clone()), seen: Some(instance) }
}

/// What is written, if anything, for an object with this status.
fn written(object: Value, rights: Rights, observed: Observed) -> Option<Write> {
    let now = Timestamp::from_second(NOON).unwrap();
    let binding: InstanceRoleBinding = serde_json::from_value::<Watched>(object).unwrap().kept.whole();
    let status = binding.status.clone().unwrap_or_default();
    let target = Target {
        profile: ProfileRef::Arn(arn(APP)),
        id: None,
        has_role: Some(true),
        as_of: now + SignedDuration::from_secs(1),
    };
    let resolution = Resolution::Found(target);
    let history = gather::history(&binding, &status, &resolution, &[]);
    let _ = (gather::settles(&history, now, now), gather::swapping(&status));
    let facts = Facts {
        desired: gather::desired(&binding, &settings()).unwrap(),
        resolution,
        rights,
        history,
        observed,
        standing: Standing::Winner,
        trouble: None,
        restraint: Restraint::default(),
        leaving: gather::leaving(&binding, None),
    };
    let place = Place {
        account: AccountId::parse("123456789012").unwrap(),
        region: Region::parse("eu-west-1").unwrap(),
    };
    match facts.decide(&place, now).step {
        Step::Write(write) => Some(write),
        _ => None,
    }
}

fn times(factor: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: factor * usual.cases, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(times(4))]

    #[test]
    fn whatever_stands_in_status_the_object_is_read(status in any_status(), leaving in any::<bool>()) {
        let Watched { kept, .. } = serde_json::from_value(object(status, "Detach", leaving)).unwrap();
        let whole = kept.whole();
        prop_assert_eq!(whole.spec.instance_id.as_str(), "i-0123456789abcdef0");
        prop_assert!(gather::desired(&whole, &settings()).is_ok());
    }

    #[test]
    fn no_object_makes_the_controller_panic(spec in any_json(), metadata in any_json(), status in any_status()) {
        let object = json!({"apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding", "metadata": metadata, "spec": spec, "status": status});
        if let Ok(Watched { kept, .. }) = serde_json::from_value(object.clone()) {
            drop(gather::desired(&kept.whole(), &settings()));
        }
        if let Ok(grant) = serde_json::from_value::<InstanceRoleGrant>(object) {
            drop(Grant::parse("g", &grant.spec));
        }
    }

    #[test]
    fn without_a_grant_no_status_justifies_a_write(
        status in any_status(),
        deletion in select(vec!["Detach", "Restore", "Retain"]),
        leaving in any::<bool>(),
        carried in select(vec![None, Some(APP), Some(OLD), Some(ADMIN)]),
        state in select(vec!["running", "stopped"]),
    ) {
        let nothing = Rights::default();
        prop_assert_eq!(written(object(status, deletion, leaving), nothing, observed(carried, state)), None);
    }

    #[test]
    fn a_status_gives_no_right_to_a_profile_or_to_leave_an_instance_bare(
        status in any_status(),
        deletion in select(vec!["Detach", "Restore", "Retain"]),
        leaving in any::<bool>(),
        carried in select(vec![None, Some(APP), Some(OLD), Some(ADMIN)]),
        state in select(vec!["running", "stopped"]),
        covered in select(vec![vec![APP], vec![APP, OLD], vec![OLD]]),
        allow_none in any::<bool>(),
    ) {
        let rights = Rights { grants: vec![grant(&covered, allow_none)], required: None, own: false };
        let is_covered = |profile: &ProfileRef| covered.contains(&profile.as_str());
        let shown = |association: &AssociationId, from: &ProfileRef| {
            association.as_str() == "iip-assoc-shown" && Some(from.as_str()) == carried
        };
        match written(object(status, deletion, leaving), rights, observed(carried, state)) {
            None => {}
            Some(Write::Associate { profile }) => prop_assert!(is_covered(&profile) && carried.is_none(), "{:?}", profile),
            Some(Write::Replace { association, from, profile }) => {
                prop_assert!(shown(&association, &from) && is_covered(&profile) && state == "running", "{:?} by {:?}", from, profile)
            }
            Some(Write::Disassociate { association, from, then: Some(next) }) => {
                prop_assert!(shown(&association, &from) && is_covered(&next) && state == "stopped", "{:?}, then {:?}", from, next)
            }
            // Only a deletion takes off what is declared, and then only what a grant covers.
            Some(Write::Disassociate { association, from, then: None }) => {
                prop_assert!(shown(&association, &from) && leaving && allow_none && is_covered(&from), "{:?}", from)
            }
        }
    }
}

#[test]
fn a_grant_that_covers_is_what_makes_the_difference() {
    let write = |grants: Vec<Arc<Grant>>| {
        let rights = Rights { grants, required: None, own: false };
        written(object(json!({}), "Detach", false), rights, observed(Some(OLD), "running"))
    };
    assert_eq!(write(vec![]), None);
    assert!(matches!(write(vec![grant(&[APP], true)]), Some(Write::Replace { .. })));
}
