//! The gate that each write passes last: nothing goes out while this process does not lead.
//!
//! It stands inside the SDK, after credentials were found and the request was signed, which may take seconds: between it
//! and the wire there is nothing but the connection.

use std::time::Duration;

use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

use crate::lease::Fence;

/// The gate of one time of leading.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Open while a write may be begun.
    pub fence: Fence,
    /// How long a write may take in all: one that has passed the gate is over before another process writes.
    pub limit: Duration,
}

impl Gate {
    /// The settings of a write.
    pub(super) fn limits(&self) -> Builder {
        let limits =
            TimeoutConfig::builder().operation_timeout(self.limit).operation_attempt_timeout(self.limit);
        Builder::new().timeout_config(limits.build())
    }
}

#[dyn_dispatch_hint]
impl Intercept for Gate {
    fn name(&self) -> &'static str {
        "Gate"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        Ok(self.fence.check()?)
    }
}
