use futures::FutureExt;
use serde_json::{Value, json};

use super::*;

const A: &str = "i-00000000000000001";
const B: &str = "i-00000000000000002";

fn watched(name: &str, instance: &str, generation: i64, status: Value) -> Watched {
    serde_json::from_value(json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
        "metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1", "generation": generation,
                     "creationTimestamp": "2026-11-23T12:00:00Z"},
        "spec": {"instanceId": instance, "instanceProfile": {"name": "app"}},
        "status": status,
    }))
    .unwrap()
}

fn declared(name: &str, instance: &str) -> Watched {
    watched(name, instance, 1, Value::Null)
}

fn bindings() -> Bindings {
    Bindings::new(1, Region::parse("eu-west-1").unwrap())
}

fn key(name: &str) -> Key {
    Key { namespace: "team".into(), name: name.into() }
}

fn spot(instance: &str) -> Spot {
    Spot { region: Region::parse("eu-west-1").unwrap(), instance: InstanceId::parse(instance).unwrap() }
}

fn list(bindings: &Bindings, all: &[(&str, &str)]) -> Vec<News> {
    let shown = all.iter().map(|(name, instance)| Event::InitApply(declared(name, instance)));
    let events = std::iter::once(Event::Init).chain(shown).chain([Event::InitDone]);
    events.flat_map(|event| bindings.follow(&None, event)).collect()
}

/// Who is to have a pass now, in this order.
fn woken(bindings: &Bindings) -> Vec<String> {
    let next = || Some(bindings.passes().next().now_or_never()?.name.clone());
    std::iter::from_fn(next).collect()
}

#[test]
fn a_list_that_is_read_again_takes_away_what_is_gone_and_nothing_before_its_end() {
    let bindings = bindings();
    assert!(list(&bindings, &[("one", A), ("two", B)]).contains(&News::Listed));
    assert!(bindings.is_listed());
    bindings.follow(&None, Event::Init);
    bindings.follow(&None, Event::InitApply(declared("two", B)));
    assert!(bindings.get(&key("one")).is_some());
    let news = bindings.follow(&None, Event::InitDone);
    assert!(bindings.get(&key("one")).is_none() && bindings.get(&key("two")).is_some());
    assert!(matches!(&news[..], [News::Gone(gone, uid), News::Crowd(_), News::Ended(at)]
        if **gone == key("one") && uid == "one" && *at == spot(A)));
    assert_eq!(bindings.in_namespace("team").0, 1);
}

#[test]
fn two_for_one_instance_are_news_to_each_other_until_one_of_them_goes() {
    let bindings = bindings();
    list(&bindings, &[("one", A)]);
    let contested = News::Contested("team".into(), spot(A));
    assert!(bindings.follow(&None, Event::Apply(declared("two", A))).contains(&contested));
    assert_eq!(bindings.count_at(&spot(A)), 2);
    let others = bindings.others(&spot(A), &key("one"), |_| true);
    assert_eq!(others.iter().map(|other| &*other.key.name).collect::<Vec<_>>(), ["two"]);
    assert!(bindings.follow(&None, Event::Delete(declared("two", A))).contains(&contested));
    assert!(bindings.others(&spot(A), &key("one"), |_| true).is_empty());
    let news = bindings.follow(&None, Event::Delete(declared("one", A)));
    assert!(news.contains(&News::Ended(spot(A))) && bindings.count_at(&spot(A)) == 0);
}

#[test]
fn one_made_again_under_its_name_may_name_another_instance() {
    let bindings = bindings();
    list(&bindings, &[("one", A)]);
    let news = list(&bindings, &[("one", B)]);
    assert!(news.contains(&News::Ended(spot(A))));
    assert_eq!((bindings.count_at(&spot(A)), bindings.count_at(&spot(B))), (0, 1));
    assert_eq!(bindings.in_namespace("team").0, 1);
}

#[test]
fn an_edit_is_looked_at_before_what_nobody_waits_for() {
    let bindings = bindings();
    list(&bindings, &[("one", A), ("two", B)]);
    assert_eq!(woken(&bindings).len(), 2);
    for name in ["one", "two"] {
        bindings.passes().ended(&Arc::new(key(name)), super::super::passes::Action::await_change());
    }
    // Our own status comes back by the watch, then somebody edits.
    let told = json!({"observedGeneration": 1, "region": "eu-west-1"});
    bindings.follow(&None, Event::Apply(watched("one", A, 1, told)));
    bindings.follow(&None, Event::Apply(watched("two", B, 2, Value::Null)));
    assert_eq!(woken(&bindings), ["two", "one"]);
}

#[test]
fn all_tables_know_a_binding_by_one_name_however_often_it_changes() {
    let bindings = bindings();
    list(&bindings, &[("one", A)]);
    for generation in 2..5 {
        bindings.follow(&None, Event::Apply(watched("one", A, generation, Value::Null)));
    }
    list(&bindings, &[("one", A)]);
    let index = bindings.index();
    let (name, kept) = index.all.get_key_value(&key("one")).unwrap();
    let named = index.keys.get(&spot(A)).unwrap().by();
    assert!(Arc::ptr_eq(name, kept.key()) && Arc::ptr_eq(name, &named[0]));
    let (at, _) = index.keys.get_key_value(&spot(A)).unwrap();
    let kept = kept.spot(&bindings.own_region).unwrap();
    assert!(std::ptr::eq(at.instance.as_str(), kept.instance.as_str()));
}
