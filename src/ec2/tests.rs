//! What reads cost and what they are worth, counted in the sandbox's journal.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_ec2::config::{Credentials, Region as SdkRegion};
use ec2_sandbox::Sandbox;
use ec2_sandbox::settings::Settings;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::budget::Limit;
use super::client::{Caller, Ec2, Read, Reads};
use super::error::Meaning;
use super::fleet::{Fleet, Pace};
use super::gate::Gate;
use crate::decide::{Grade, Instance, Rows};
use crate::ids::InstanceId;
use crate::lease::Fence;
use crate::telemetry::{BuildInfo, Metrics};

const LISTING: &str = "DescribeIamInstanceProfileAssociations";
const INSTANCES: &str = "DescribeInstances";
const REGION: &str = "eu-west-1";

/// A sandbox, and the view of it that a process keeps.
struct Stage {
    sandbox: Sandbox,
    fleet: Fleet,
}

impl Stage {
    async fn new() -> Self {
        let sandbox = Sandbox::start("127.0.0.1:0", Settings::default()).await.unwrap();
        let keys = Credentials::new("AKIA123456789012TEST", "secret", None, None, "test");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .endpoint_url(sandbox.url())
            .region(SdkRegion::new(REGION))
            .credentials_provider(keys)
            .load()
            .await;
        let caller = Caller {
            metrics: Arc::new(Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap()),
            role: None,
        };
        let gate = Gate { fence: Fence::always(), limit: Duration::from_secs(5) };
        let reads = Arc::new(Reads::new(Limit::DESCRIBE));
        let ec2 = Ec2::new((&config).into(), caller, reads, gate);
        let (changed, _) = mpsc::unbounded_channel();
        Self { sandbox, fleet: Fleet::new(ec2, changed) }
    }

    /// The sandbox's admin API.
    fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let (address, body) = (self.sandbox.address(), body.to_string());
        let mut connection = TcpStream::connect(address).unwrap();
        let head = format!(
            "{method} /_sandbox/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (_, answer) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(answer).unwrap()
    }

    /// New instances that carry a profile.
    fn instances(&self, count: usize) -> Vec<InstanceId> {
        self.admin("POST", "profiles", &json!({"name": "app"}));
        let made = json!({"count": count, "profile": "app", "state": "running", "region": REGION});
        let made = self.admin("POST", "instances", &made);
        let made = made["instanceIds"].as_array().unwrap();
        made.iter().map(|id| InstanceId::parse(id.as_str().unwrap()).unwrap()).collect()
    }

    /// The number of the last call.
    fn last_call(&self) -> u64 {
        self.admin("GET", "journal?limit=0", &Value::Null)["last"].as_u64().unwrap()
    }

    fn track(&self, ids: &[InstanceId]) {
        ids.iter().for_each(|id| self.fleet.track(id));
    }

    /// The actions asked for since, each with the number of instances that it named.
    fn asked(&self, since: u64) -> Vec<(String, usize)> {
        let named = |params: &serde_json::Map<String, Value>| {
            params.values().filter(|value| value.as_str().is_some_and(|text| text.starts_with("i-"))).count()
        };
        let journal = self.admin("GET", &format!("journal?since={since}"), &Value::Null);
        let calls = journal["entries"].as_array().unwrap().iter();
        calls
            .map(|call| {
                (call["action"].as_str().unwrap().to_owned(), named(call["params"].as_object().unwrap()))
            })
            .collect()
    }

    fn rows(&self, id: &InstanceId) -> (Rows, Grade) {
        let view = self.fleet.observed(id, Timestamp::now(), Timestamp::MIN).view.unwrap();
        (view.rows, view.grade)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_lists_a_thousand_rows_a_call_and_asks_for_no_instance() {
    let stage = Stage::new().await;
    let ids = stage.instances(2_300);
    stage.track(&ids);
    for _ in 0..2 {
        let since = stage.last_call();
        assert_eq!(stage.fleet.pass().await.unwrap().calls, 3);
        assert_eq!(stage.asked(since), vec![(LISTING.to_owned(), 0); 3]);
    }
    assert!(ids.iter().all(|id| matches!(stage.rows(id), (Rows::One(_), Grade::Listing))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_in_a_large_region_are_looked_up_by_id_once_its_size_has_shown() {
    let stage = Stage::new().await;
    let ids = stage.instances(2_300);
    let few = &ids[..250];
    stage.track(few);
    let since = stage.last_call();
    stage.fleet.pass().await.unwrap();
    let (page, full, rest) = ((LISTING.to_owned(), 0), (LISTING.to_owned(), 200), (LISTING.to_owned(), 50));
    assert_eq!(stage.asked(since), [page.clone(), page, full.clone(), rest.clone()]);
    let since = stage.last_call();
    stage.fleet.pass().await.unwrap();
    assert_eq!(stage.asked(since), [full, rest], "and never by pages again");
    assert!(few.iter().all(|id| matches!(stage.rows(id), (Rows::One(_), Grade::Settled))));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_id_never_fails_its_batch_and_is_asked_for_once() {
    let stage = Stage::new().await;
    let mut ids = stage.instances(150);
    let bad = InstanceId::parse("i-00000000000000000").unwrap();
    ids.insert(77, bad.clone());
    stage.track(&ids);
    stage.fleet.pass().await.unwrap();
    let good = ids.iter().filter(|id| **id != bad);
    assert!(good.clone().all(|id| matches!(stage.rows(id), (Rows::One(_), Grade::Settled))));
    let now = Timestamp::now();
    assert_eq!(stage.fleet.observed(&bad, now, Timestamp::MIN).instance, Some(Instance::Impossible));
    let since = stage.last_call();
    stage.fleet.pass().await.unwrap();
    stage.fleet.look_at_associations(&bad, Pace::Hurry).await.unwrap();
    stage.fleet.look_at_instance(&bad, Pace::Hurry).await.unwrap();
    assert_eq!(stage.asked(since), [(LISTING.to_owned(), 150)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_hide_the_states_of_others() {
    let stage = Stage::new().await;
    let mut ids = stage.instances(150);
    let bad = InstanceId::parse("i-00000000000000000").unwrap();
    ids.insert(77, bad.clone());
    stage.track(&ids);
    join_all(ids.iter().map(|id| stage.fleet.look_at_instance(id, Pace::Hurry))).await;
    let state = |id: &InstanceId| stage.fleet.observed(id, Timestamp::now(), Timestamp::MIN).seen;
    let present = |id: &&InstanceId| matches!(state(id), Some(Instance::Present { .. }));
    assert_eq!(ids.iter().filter(present).count(), 150);
    // This filter takes any text, and shows nothing.
    assert_eq!(state(&bad), Some(Instance::Absent));
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_the_same_time_share_calls() {
    let stage = Stage::new().await;
    let ids = stage.instances(500);
    stage.track(&ids);
    let since = stage.last_call();
    let looks = ids.iter().map(|id| stage.fleet.look_at_instance(id, Pace::Hurry));
    assert!(join_all(looks).await.iter().all(Result::is_ok));
    let (full, rest) = ((INSTANCES.to_owned(), 200), (INSTANCES.to_owned(), 100));
    let mut asked = stage.asked(since);
    asked.sort();
    assert_eq!(asked, [rest, full.clone(), full]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_read_lowers_the_rate_of_reads_of_its_kind_and_loses_nothing_that_is_known() {
    let stage = Stage::new().await;
    let ids = stage.instances(3);
    stage.track(&ids);
    stage.fleet.pass().await.unwrap();
    stage.admin("POST", "faults", &json!({"action": LISTING, "count": 1, "effect": "throttle"}));
    let error = stage.fleet.pass().await.unwrap_err();
    assert_eq!(error.meaning(), Meaning::Throttled);
    let ec2 = stage.fleet.ec2();
    assert!(ec2.is_throttled(Read::Associations).await && !ec2.is_throttled(Read::Instances).await);
    assert!(ids.iter().all(|id| matches!(stage.rows(id).0, Rows::One(_))));
    stage.fleet.pass().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_throttled_is_asked_for_again_and_those_before_it_are_not() {
    let stage = Stage::new().await;
    let ids = stage.instances(2_300);
    stage.track(&ids);
    stage.admin("POST", "faults", &json!({"action": LISTING, "skip": 1, "count": 2, "effect": "throttle"}));
    let since = stage.last_call();
    assert_eq!(stage.fleet.pass().await.unwrap().calls, 3);
    assert_eq!(stage.asked(since).len(), 5);
    assert!(ids.iter().all(|id| matches!(stage.rows(id).0, Rows::One(_))));
}
