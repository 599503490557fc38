//! What holds of grants in any world, whoever was given what: checked against the second reading of the law.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::fixtures::*;
use super::law::Law;
use super::properties::any_story;
use crate::decide::*;

const TEAM: &str = "arn:aws:iam::123456789012:instance-profile/team";

fn any_spec() -> impl Strategy<Value = Value> {
    let namespaces = select(vec![
        json!({"names": ["team-a"]}),
        json!({"selector": {}}),
        json!({"selector": {"matchLabels": {"team": "a"}}}),
        json!({"names": ["team-b"], "selector": {"matchLabels": {"team": "b"}}}),
        json!({"selector": {"matchExpressions": [{"key": "banned", "operator": "Exists"}]}}),
    ]);
    let profiles = subsequence(
        vec![
            format!("{TEAM}/App"),
            format!("{TEAM}/*"),
            format!("{TEAM}/App/*"),
            "App".to_owned(),
            "Old".to_owned(),
            "Other".to_owned(),
            "arn:aws:iam::123456789012:instance-profile/tea/*".to_owned(),
            "arn:aws:iam::210987654321:instance-profile/*".to_owned(),
        ],
        1..4,
    );
    let instances = select(vec![
        json!({"regions": ["eu-west-1"]}),
        json!({"regions": ["us-east-1"]}),
        json!({"tags": {"team": "a"}}),
        json!({"tags": {"team": "a", "stage": "live"}}),
        json!({"ids": ["i-0123456789abcdef0"]}),
        json!({"ids": ["i-0fedcba9876543210"]}),
        json!({"regions": ["eu-west-1"], "tags": {"stage": "live"}, "ids": ["i-0123456789abcdef0"]}),
    ]);
    (namespaces, profiles, instances, any::<bool>()).prop_map(|(namespaces, profiles, instances, none)| {
        json!({"namespaces": namespaces, "instanceProfiles": profiles, "instances": instances, "allowNone": none})
    })
}

fn any_law() -> impl Strategy<Value = Law> {
    let required = proptest::bool::weighted(0.1);
    (proptest::collection::vec(any_spec(), 0..4), required, proptest::bool::weighted(0.1)).prop_map(
        |(specs, required, own)| {
            let mut law = Law::of(specs);
            law.own = own;
            if required { law.requiring("managed-by", "us") } else { law }
        },
    )
}

fn any_tags() -> impl Strategy<Value = Tags> {
    let all = vec![
        ("team", "a"),
        ("stage", "live"),
        ("managed-by", "us"),
        ("Team", "A"),
        ("kubernetes.io/cluster/prod", "owned"),
        ("eks:nodegroup-name", "x"),
    ];
    subsequence(all, 0..6).prop_map(|tags| tags.into_iter().collect())
}

fn tagged(instance: Option<Instance>, with: &Tags) -> Option<Instance> {
    match instance {
        Some(Instance::Present { state, managed, .. }) => {
            Some(Instance::Present { state, managed, tags: with.clone() })
        }
        other => other,
    }
}

/// Any story in any land: fresh and older looks at the instance may differ.
fn any_case() -> impl Strategy<Value = Story> {
    (any_story(), any_law(), any_tags(), proptest::option::weighted(0.2, any_tags())).prop_map(
        |(story, law, now, before)| {
            let seen = before.and_then(|tags| tagged(story.instance.clone(), &tags));
            Story { instance: tagged(story.instance.clone(), &now), seen, law, ..story }
        },
    )
}

fn many() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: 4 * usual.cases, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn nothing_is_written_that_no_single_grant_allows_on_the_instance_as_it_is(story in any_case()) {
        if let Some(write) = story.written() {
            let instance = story.instance.as_ref();
            prop_assert!(instance.is_some(), "written without a fresh look");
            prop_assert!(story.law.allows(&story, &write, instance.unwrap()), "{write:?}");
        }
    }

    #[test]
    fn who_is_refused_reads_the_same_whatever_the_instance_is(story in any_case(), rows in any_story()) {
        let told = story.decide();
        if told.step == Step::Refuse && matches!(told.authority, Authority::Refused { .. }) {
            let gone = Story { instance: Some(Instance::Absent), seen: None, ..story.clone() }.decide();
            prop_assert_eq!((gone.reason, gone.in_sync), (told.reason, told.in_sync));
            // What a swap of its own left undone is no news to it either.
            prop_assert!(gone.message.starts_with(&told.message) || told.message.starts_with(&gone.message));
            let other = Story { rows: rows.rows, grade: rows.grade, standing: rows.standing, ..story }.decide();
            if !matches!(other.step, Step::Write(_) | Step::Look(_)) {
                prop_assert!(other.message.starts_with(&told.message) || told.message.starts_with(&other.message));
            }
        }
    }

    #[test]
    fn the_order_of_grants_is_irrelevant(story in any_case(), turns in 0_usize..4) {
        let turned = Story { law: story.law.clone().turned(turns), ..story.clone() };
        prop_assert_eq!(turned.decide().step, story.decide().step);
    }

    #[test]
    fn another_grant_takes_no_right_away(story in any_case(), spec in any_spec()) {
        if let Some(write) = story.written() {
            let more = Story { law: story.law.and(spec), ..story.clone() };
            // What was refused is no longer put back once it is allowed.
            let refused = matches!(story.decide().authority, Authority::Refused { .. });
            let allowed = matches!(more.decide().authority, Authority::Granted { .. });
            prop_assert!(more.written() == Some(write) || refused && allowed, "{:?}", more.decide());
        }
    }

    #[test]
    fn without_grants_nothing_is_written_and_nobody_is_held_back(story in any_case()) {
        let bare = Story { law: story.law.without_grants(), ..story };
        let decision = bare.decide();
        match bare.leaving {
            Some(_) => prop_assert!(matches!(decision.step, Step::Release(_))),
            None => prop_assert_eq!((decision.step, decision.reason), (Step::Refuse, Reason::NotAuthorized)),
        }
    }
}
