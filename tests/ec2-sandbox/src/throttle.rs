//! EC2's request throttling: one token bucket per account, Region and action (aws-semantics 2).

use std::collections::HashMap;

use crate::error::ApiError;
use crate::settings::{Bucket, Settings};
use crate::time::Millis;

/// The fill of every bucket that was ever used.
#[derive(Debug, Default)]
pub struct Throttle(HashMap<(String, String, String), Fill>);

#[derive(Debug)]
struct Fill {
    tokens: f64,
    at: Millis,
}

impl Throttle {
    /// Takes a token for a call.
    ///
    /// # Errors
    /// `RequestLimitExceeded` of EC2 and `Throttling` of the others when there is none.
    pub fn take(
        &mut self,
        now: Millis,
        settings: &Settings,
        call: (&str, &str, &str, &str),
        unfiltered: bool,
    ) -> Result<(), ApiError> {
        if !settings.throttling {
            return Ok(());
        }
        let (account, region, service, action) = call;
        let special = format!("{action}:unfiltered");
        let name = if unfiltered && settings.buckets.contains_key(&special) { &special } else { action };
        let bucket = settings.buckets.get(name).or_else(|| settings.buckets.get(&format!("*{service}")));
        let Some(bucket) = bucket else { return Ok(()) };
        // IAM is one for all Regions.
        let region = if service == "iam" { "" } else { region };
        let key = (account.to_owned(), region.to_owned(), name.to_owned());
        let fill = self.0.entry(key).or_insert(Fill { tokens: bucket.capacity, at: now });
        if fill.take(now, bucket) { Ok(()) } else { Err(refusal(service)) }
    }

    /// Fills all buckets.
    pub fn reset(&mut self) {
        self.0.clear();
    }
}

impl Fill {
    fn take(&mut self, now: Millis, bucket: &Bucket) -> bool {
        let seconds = now.saturating_sub(self.at) as f64 / 1000.0;
        self.tokens = (self.tokens + seconds * bucket.refill).min(bucket.capacity);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// What a throttled caller is told.
pub fn refusal(service: &str) -> ApiError {
    if service == "ec2" {
        ApiError::new("RequestLimitExceeded", 503, "Request limit exceeded.")
    } else {
        ApiError::bad("Throttling", "Rate exceeded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSOCIATE: (&str, &str, &str, &str) =
        ("123456789012", "eu-west-1", "ec2", "AssociateIamInstanceProfile");

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (mut throttle, settings) = (Throttle::default(), Settings::default());
        let mut take = |now| throttle.take(now, &settings, ASSOCIATE, false);
        assert!((0..100).all(|_| take(0).is_ok()));
        assert_eq!(take(0).unwrap_err().code, "RequestLimitExceeded");
        assert_eq!((0..10).filter(|_| take(1000).is_ok()).count(), 5);
    }

    #[test]
    fn accounts_regions_and_actions_do_not_share_a_bucket() {
        let (mut throttle, settings) = (Throttle::default(), Settings::default());
        while throttle.take(0, &settings, ASSOCIATE, false).is_ok() {}
        for other in [
            ("210987654321", "eu-west-1", "ec2", "AssociateIamInstanceProfile"),
            ("123456789012", "us-east-1", "ec2", "AssociateIamInstanceProfile"),
            ("123456789012", "eu-west-1", "ec2", "DisassociateIamInstanceProfile"),
        ] {
            assert!(throttle.take(0, &settings, other, false).is_ok(), "{other:?}");
        }
    }

    #[test]
    fn a_listing_without_filter_and_paging_has_a_smaller_bucket() {
        let (mut throttle, settings) = (Throttle::default(), Settings::default());
        let listing = ("123456789012", "eu-west-1", "ec2", "DescribeInstances");
        assert_eq!((0..200).filter(|_| throttle.take(0, &settings, listing, true).is_ok()).count(), 50);
        assert_eq!((0..200).filter(|_| throttle.take(0, &settings, listing, false).is_ok()).count(), 100);
    }
}
