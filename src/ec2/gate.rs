//! The gate that each write passes last: nothing goes out while this process does not lead, or that rests on what was seen
//! too long ago.
//!
//! It stands inside the SDK, after credentials were found and the request was signed, which may take seconds: between it
//! and the wire there is nothing but the connection.

use std::time::Duration;

use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use jiff::Timestamp;

use crate::lease::Fence;

/// Nothing was sent: what the write rests on was seen too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sent: the instance was looked at too long ago")]
pub struct Late;

/// The gate of one time of leading.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Open while a write may be begun.
    pub fence: Fence,
    /// How long a write may take in all: one that has passed the gate is over before another process writes.
    pub limit: Duration,
}

/// The gate before one write.
#[derive(Debug)]
pub(super) struct Passage {
    fence: Fence,
    until: Timestamp,
}

impl Gate {
    /// For a write that may go out until then.
    pub(super) fn until(&self, until: Timestamp) -> Passage {
        Passage { fence: self.fence.clone(), until }
    }

    /// The settings of a write.
    pub(super) fn limits(&self) -> Builder {
        let limits =
            TimeoutConfig::builder().operation_timeout(self.limit).operation_attempt_timeout(self.limit);
        Builder::new().timeout_config(limits.build())
    }
}

#[dyn_dispatch_hint]
impl Intercept for Passage {
    fn name(&self) -> &'static str {
        "Gate"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.fence.check()?;
        if Timestamp::now() > self.until { Err(Late.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
    use tokio::net::TcpListener;

    use super::*;
    use crate::decide::ProfileRef;
    use crate::ec2::budget::Limit;
    use crate::ec2::client::{Caller, Ec2, Reads};
    use crate::ec2::{Error, Reply};
    use crate::ids::{AssociationId, InstanceId};
    use crate::telemetry::{BuildInfo, Metrics};

    /// EC2 by a fence, and a server that takes connections and says nothing.
    async fn fenced(fence: Fence) -> (Ec2, TcpListener, Arc<Metrics>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(format!("http://{}", server.local_addr().unwrap()));
        let metrics = Arc::new(Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap());
        let caller = Caller { metrics: Arc::clone(&metrics), role: None };
        let gate = Gate { fence, limit: Duration::from_millis(200) };
        let reads = Arc::new(Reads::new(Limit::DESCRIBE));
        (Ec2::new(config, caller, reads, gate), server, metrics)
    }

    async fn writes(ec2: &Ec2, until: Timestamp) -> [Result<Reply, Error>; 3] {
        let instance = InstanceId::parse("i-0123456789abcdef0").unwrap();
        let association = AssociationId::parse("iip-assoc-0123456789abcdef0").unwrap();
        let profile = ProfileRef::parse("arn:aws:iam::123456789012:instance-profile/app").unwrap();
        [
            ec2.associate(&instance, &profile, until).await,
            ec2.replace(&association, &profile, until).await,
            ec2.disassociate(&association, until).await,
        ]
    }

    async fn is_asked(server: &TcpListener) -> bool {
        tokio::time::timeout(Duration::from_millis(50), server.accept()).await.is_ok()
    }

    #[tokio::test]
    async fn nothing_goes_out_while_the_fence_is_closed() {
        let (ec2, server, metrics) = fenced(Fence::closed()).await;
        for outcome in writes(&ec2, Timestamp::MAX).await {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::NotSent { .. }) && !error.outcome_unknown(), "{error:?}");
        }
        assert!(!is_asked(&server).await);
        assert!(!metrics.render().unwrap().contains("code=\"NotSent\""), "no call is counted");
    }

    #[tokio::test]
    async fn nothing_goes_out_that_rests_on_what_was_seen_too_long_ago() {
        let (ec2, server, _) = fenced(Fence::always()).await;
        for outcome in writes(&ec2, Timestamp::now() - jiff::SignedDuration::from_millis(1)).await {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::Late { .. }) && !error.outcome_unknown(), "{error:?}");
        }
        assert!(!is_asked(&server).await);
    }

    #[tokio::test]
    async fn while_it_is_open_a_write_goes_out_and_ends_in_its_time() {
        let (ec2, server, _) = fenced(Fence::always()).await;
        let began = std::time::Instant::now();
        for outcome in writes(&ec2, Timestamp::MAX).await {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::NoReply { .. }) && error.outcome_unknown(), "{error:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(4), "the SDK's own limit would be none");
        assert!(is_asked(&server).await);
    }
}
