//! Replies that EC2 would not send, through the real SDK: cut off, torn, scrambled, hostile.
//!
//! Whatever comes, reading it does not panic; and where the reply is not whole, nothing follows from what it lacks. An
//! instance that is not in a broken answer is not gone, and an association that is not in it is not detached.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use proptest::prelude::*;
use proptest::sample::select;

use super::budget::Limit;
use super::client::{Caller, Ec2, Read, Reads, Row};
use super::error::Error;
use super::gate::Gate;
use crate::decide::{Instance, ProfileRef};
use crate::ids::{AssociationId, InstanceId};
use crate::lease::Fence;
use crate::telemetry::{BuildInfo, Metrics};

const INSTANCE: &str = "i-0123456789abcdef0";

/// As captured; two instances, of which the first is ours.
const ASSOCIATIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeIamInstanceProfileAssociationsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>84c2d2a6-12dc-491f-a9ee-example</requestId>
    <iamInstanceProfileAssociationSet>
        <item>
            <associationId>iip-assoc-08049da59357d598c</associationId>
            <iamInstanceProfile>
                <arn>arn:aws:iam::123456789012:instance-profile/app</arn>
                <id>AIPAJMLUXXXXXXXEXAMPLE</id>
            </iamInstanceProfile>
            <instanceId>i-0123456789abcdef0</instanceId>
            <state>associated</state>
        </item>
        <item>
            <associationId>iip-assoc-08049da59357d5990</associationId>
            <iamInstanceProfile>
                <arn>arn:aws:iam::123456789012:instance-profile/other</arn>
                <id>AIPAJMLUXXXXXXXEXAMPL2</id>
            </iamInstanceProfile>
            <instanceId>i-0123456789abcdef1</instanceId>
            <state>associated</state>
        </item>
    </iamInstanceProfileAssociationSet>
</DescribeIamInstanceProfileAssociationsResponse>"#;

const INSTANCES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
    <reservationSet>
        <item>
            <reservationId>r-1234567890abcdef0</reservationId>
            <ownerId>123456789012</ownerId>
            <groupSet/>
            <instancesSet>
                <item>
                    <instanceId>i-0123456789abcdef0</instanceId>
                    <instanceState><code>16</code><name>running</name></instanceState>
                    <tagSet>
                        <item><key>kubernetes.io/cluster/one</key><value>owned</value></item>
                    </tagSet>
                    <operator><managed>false</managed></operator>
                </item>
            </instancesSet>
        </item>
    </reservationSet>
</DescribeInstancesResponse>"#;

const REPLACED: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ReplaceIamInstanceProfileAssociationResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>59bbff89-7bd1-4b66-8ab3-example</requestId>
    <iamInstanceProfileAssociation>
        <associationId>iip-assoc-0db249b1f25fa24b8</associationId>
        <iamInstanceProfile>
            <arn>arn:aws:iam::123456789012:instance-profile/app</arn>
            <id>AIPAJVQN4F5WVLGCJDRGM</id>
        </iamInstanceProfile>
        <instanceId>i-0123456789abcdef0</instanceId>
        <state>associating</state>
    </iamInstanceProfileAssociation>
</ReplaceIamInstanceProfileAssociationResponse>"#;

/// A wire on which every request is answered with the same bytes.
#[derive(Debug, Clone)]
struct Always(Arc<Mutex<(u16, Vec<u8>)>>);

impl HttpConnector for Always {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.0.lock().unwrap().clone();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

impl HttpClient for Always {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// What EC2 and we make of an answer.
struct Heard {
    rows: Result<Vec<Row>, Error>,
    instances: Result<Vec<(InstanceId, Instance)>, Error>,
    replaced: Result<super::client::Reply, Error>,
}

fn hear(status: u16, body: &[u8]) -> Heard {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::for_tests())
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .http_client(Always(Arc::new(Mutex::new((status, body.to_vec())))));
    let metrics = Arc::new(Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap());
    let gate = Gate { fence: Fence::always(), limit: Duration::from_secs(5) };
    let (caller, reads) = (Caller { metrics, role: None }, Arc::new(Reads::new(Limit::DESCRIBE)));
    let ec2 = Ec2::new(config, caller, reads, gate);
    let ids = [InstanceId::parse(INSTANCE).unwrap()];
    let association = AssociationId::parse("iip-assoc-0123456789abcdef0").unwrap();
    let profile = ProfileRef::parse("arn:aws:iam::123456789012:instance-profile/app").unwrap();
    runtime.block_on(async {
        // An answer that names a next page for ever is asked for ever: no answer in time.
        let patience = Duration::from_millis(300);
        let late = |operation| Error::NoReply { operation, cause: "pages without end".into() };
        let rows = async { ec2.associations_of(ec2.read_token(Read::Associations).await, &ids).await };
        let instances = async { ec2.instances(ec2.read_token(Read::Instances).await, &ids).await };
        Heard {
            rows: tokio::time::timeout(patience, rows).await.unwrap_or_else(|_| Err(late("rows"))),
            instances: tokio::time::timeout(patience, instances)
                .await
                .unwrap_or_else(|_| Err(late("instances")))
                .map(|found| found.into_iter().collect()),
            replaced: ec2.replace(&association, &profile, jiff::Timestamp::MAX).await,
        }
    })
}

/// What is put into a reply, or in place of a part of it.
fn dirt() -> impl Strategy<Value = String> {
    let hostile = select(vec![
        "<",
        ">",
        "&",
        "&lt;",
        "&#0;",
        "&#xD800;",
        "]]>",
        "<![CDATA[",
        "<!--",
        "<?",
        "</item>",
        "<item>",
        "\u{0}",
        "\u{202e}",
        "<!DOCTYPE a [<!ENTITY b \"c\">]>",
        "&b;",
        "i-0123456789abcdef0",
        "iip-assoc-",
        "associated",
        "<nextToken>x</nextToken>",
        "{}",
        "null",
        "-1",
        "99999999999999999999999",
        "<html><body>502 Bad Gateway</body></html>",
    ]);
    prop_oneof![4 => hostile.prop_map(str::to_owned), 1 => ".{0,12}", 1 => "[a-z]{2000}"]
}

#[derive(Debug, Clone)]
enum Wound {
    Cut(usize),
    Drop(usize, usize),
    Twice(usize, usize),
    Put(usize, String),
    Byte(usize, u8),
}

fn wound() -> impl Strategy<Value = Wound> {
    let place = 0_usize..2000;
    prop_oneof![
        place.clone().prop_map(Wound::Cut),
        (place.clone(), 1_usize..120).prop_map(|(at, length)| Wound::Drop(at, length)),
        (place.clone(), 1_usize..400).prop_map(|(at, length)| Wound::Twice(at, length)),
        (place.clone(), dirt()).prop_map(|(at, dirt)| Wound::Put(at, dirt)),
        (place, any::<u8>()).prop_map(|(at, byte)| Wound::Byte(at, byte)),
    ]
}

fn wounded(reply: &str, wounds: &[Wound]) -> Vec<u8> {
    let mut bytes = reply.as_bytes().to_vec();
    for wound in wounds {
        let end = bytes.len();
        match wound {
            Wound::Cut(at) => bytes.truncate(at % (end + 1)),
            Wound::Drop(at, length) => {
                let from = at % (end + 1);
                drop(bytes.drain(from..(from + length).min(end)));
            }
            Wound::Twice(at, length) => {
                let from = at % (end + 1);
                let again = bytes[from..(from + length).min(end)].to_vec();
                bytes.splice(from..from, again);
            }
            Wound::Put(at, dirt) => drop(bytes.splice(at % (end + 1)..at % (end + 1), dirt.bytes())),
            Wound::Byte(at, byte) if end > 0 => bytes[at % end] = *byte,
            Wound::Byte(..) => {}
        }
    }
    bytes
}

#[test]
fn whole_replies_are_understood() {
    let rows = hear(200, ASSOCIATIONS.as_bytes()).rows.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(_, row)| row.is_some()));
    let instances = hear(200, INSTANCES.as_bytes()).instances.unwrap();
    assert!(matches!(&instances[..], [(id, Instance::Present { .. })] if id.as_str() == INSTANCE));
    let reply = hear(200, REPLACED.as_bytes()).replaced.unwrap();
    assert_eq!(reply.association.unwrap().id.as_str(), "iip-assoc-0db249b1f25fa24b8");
}

#[test]
fn an_answer_that_was_cut_off_says_nothing() {
    // Before and behind each tag, and in its middle.
    let ends = |reply: &'static str| reply.match_indices(['<', '>']).flat_map(|(at, _)| [at, at + 1, at + 3]);
    for end in ends(ASSOCIATIONS).filter(|end| *end < ASSOCIATIONS.len()) {
        assert!(hear(200, &ASSOCIATIONS.as_bytes()[..end]).rows.is_err(), "{}", &ASSOCIATIONS[..end]);
    }
    for end in ends(INSTANCES).filter(|end| *end < INSTANCES.len()) {
        assert!(hear(200, &INSTANCES.as_bytes()[..end]).instances.is_err(), "{}", &INSTANCES[..end]);
    }
}

#[test]
fn a_row_that_does_not_say_whose_it_is_may_be_anybodys() {
    for (story, from, to) in [
        ("no id", "<instanceId>i-0123456789abcdef0</instanceId>", ""),
        ("another form", "i-0123456789abcdef0", "I-0123"),
        ("an empty one", "i-0123456789abcdef0", ""),
        ("another name", "instanceId>", "instance>"),
    ] {
        assert!(hear(200, ASSOCIATIONS.replace(from, to).as_bytes()).rows.is_err(), "{story}");
        assert!(hear(200, INSTANCES.replace(from, to).as_bytes()).instances.is_err(), "{story}");
    }
}

#[test]
fn a_tag_without_its_key_may_be_the_one_that_protects() {
    for (from, to) in [("<key>kubernetes.io/cluster/one</key>", ""), ("key>", "name>")] {
        assert!(hear(200, INSTANCES.replace(from, to).as_bytes()).instances.is_err(), "{from}");
    }
}

#[test]
fn an_answer_to_another_question_or_of_a_gateway_is_none() {
    for (status, body) in [
        (200, ""),
        (200, "OK"),
        (200, "{}"),
        (200, "<html><body>It works!</body></html>"),
        (200, "<DescribeVolumesResponse><volumeSet/></DescribeVolumesResponse>"),
        (204, ""),
        (302, "<html>moved</html>"),
        (403, "<html>forbidden</html>"),
        (502, "<html>bad gateway</html>"),
        (503, ""),
    ] {
        let heard = hear(status, body.as_bytes());
        assert!(heard.rows.is_err(), "{status} {body}");
        assert!(heard.instances.is_err(), "{status} {body}");
        match heard.replaced {
            // It may have been carried out: nothing is known.
            Ok(reply) => assert_eq!(reply.association, None, "{status} {body}"),
            Err(error) => assert!(error.outcome_unknown(), "{status} {body}: {error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reply_makes_the_controller_panic(
        reply in select(vec![ASSOCIATIONS, INSTANCES, REPLACED]),
        wounds in proptest::collection::vec(wound(), 1..4),
        status in select(vec![200_u16, 200, 200, 400, 403, 500, 503]),
    ) {
        let heard = hear(status, &wounded(reply, &wounds));
        // What was understood has the form of what it is, by its types; and an error has words.
        for error in [heard.rows.err(), heard.instances.err(), heard.replaced.err()].into_iter().flatten() {
            prop_assert!(!error.to_string().is_empty() && error.to_string().len() < 2000);
        }
    }

    #[test]
    fn bytes_of_no_meaning_have_none(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let heard = hear(200, &body);
        prop_assert!(heard.rows.is_err());
        prop_assert!(heard.instances.is_err());
    }
}
