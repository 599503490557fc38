//! A reply counts only if it is whole.
//!
//! The SDK takes XML that ends too early for the end: a listing that was cut off in the middle reads like one without the
//! rest, and from what a listing lacks it is concluded that it is not there.

use aws_sdk_ec2::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

/// Refuses a success whose body does not end as all of AWS' do: `</SomethingResponse>`.
#[derive(Debug)]
pub struct Whole;

/// It was not whole.
#[derive(Debug, thiserror::Error)]
#[error("the reply was cut off")]
struct CutOff;

#[dyn_dispatch_hint]
impl Intercept for Whole {
    fn name(&self) -> &'static str {
        "Whole"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let whole =
            context.output_or_error().is_err() || context.response().body().bytes().is_some_and(is_whole);
        if whole { Ok(()) } else { Err(CutOff.into()) }
    }
}

fn is_whole(body: &[u8]) -> bool {
    let body = body.trim_ascii_end();
    let last = body.iter().rposition(|byte| *byte == b'<').and_then(|at| body.get(at..));
    last.is_some_and(|tag| tag.starts_with(b"</") && tag.ends_with(b"Response>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_whole_with_its_last_tag() {
        assert!(is_whole(b"<a xmlns='x'><b/></a></DescribeInstancesResponse>\n"));
        for cut in [
            "",
            "<DescribeInstancesResponse>",
            "<DescribeInstancesResponse",
            "</DescribeInstancesRespons",
            "</item>",
            "Response>",
        ] {
            assert!(!is_whole(cut.as_bytes()), "{cut}");
        }
    }
}
