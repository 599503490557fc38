//! The names of things at AWS, each a type of its own with one parsing constructor.
//!
//! Strings end here: past this module no `&str` is an id. The accepted forms are those of
//! `aws-semantics` 3.1 (botocore's service models); `src/api` puts the same patterns into the CRDs, so
//! that the API server refuses what would be refused here.

use std::fmt;
use std::sync::Arc;

/// A value that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is malformed: {expected}")]
pub struct Malformed {
    /// What was being read, such as `instance id`.
    pub what: &'static str,
    /// The text that was refused, cut to a printable length.
    pub value: String,
    /// The form that is expected, in words.
    pub expected: &'static str,
}

impl Malformed {
    fn new(what: &'static str, value: &str, expected: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), expected }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads one, refusing any other form with words that name the form expected.
            pub fn parse(value: &str) -> Result<Self, Malformed> {
                let well_formed: fn(&str) -> bool = $check;
                if well_formed(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(Malformed::new($what, value, $expected))
                }
            }

            /// The text as AWS and Kubernetes write it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id!(
    /// An EC2 instance id, `i-` and 8 (before 2016) or 17 hexadecimal digits.
    InstanceId, "instance id", "it is `i-` and 8 or 17 hexadecimal digits",
    |s| s.strip_prefix("i-").is_some_and(|d| matches!(d.len(), 8 | 17) && d.bytes().all(is_hex))
);
id!(
    /// An association id, `iip-assoc-…`. It is the optimistic lock of Replace and Disassociate.
    AssociationId, "association id", "it begins with `iip-assoc-`",
    |s| s.strip_prefix("iip-assoc-").is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_alphanumeric()))
);
id!(
    /// The unique id IAM gives to one instance profile, `AIPA…`; a profile made again under its name has another.
    ProfileId, "profile id", "it is 16 to 128 letters and digits",
    |s| (16..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
);
id!(
    /// The name of an instance profile, without path.
    ProfileName, "instance profile name", "it is 1 to 128 of letters, digits and _+=,.@- (no path, no ARN)",
    |s| (1..=128).contains(&s.len()) && s.bytes().all(is_name)
);
id!(
    /// The name of an IAM role, without path.
    RoleName, "role name", "it is 1 to 64 of letters, digits and _+=,.@- (no path, no ARN)",
    |s| (1..=64).contains(&s.len()) && s.bytes().all(is_name)
);
id!(
    /// The ARN of an IAM role, path included, in any partition.
    RoleArn, "role ARN", "it reads arn:aws:iam::123456789012:role/name, with the path before the name if there is one",
    |s| split_iam_arn(s, "role/").is_some_and(|name| RoleName::parse(name).is_ok())
);
id!(
    /// A twelve-digit AWS account id.
    AccountId, "account id", "it is twelve digits",
    |s| s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit())
);
id!(
    /// An AWS Region, such as `eu-west-1`.
    Region, "Region", "it reads like eu-west-1",
    is_region
);
id!(
    /// The ARN of an instance profile, path included, in any partition.
    ProfileArn, "instance profile ARN",
    "it reads arn:aws:iam::123456789012:instance-profile/name, with the path before the name if there is one",
    |s| split_iam_arn(s, "instance-profile/").is_some_and(|name| ProfileName::parse(name).is_ok())
);

impl ProfileArn {
    /// The profile's name: what stands after the last `/`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The account that owns the profile.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl RoleArn {
    /// The account that the role belongs to.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

/// Takes apart `arn:aws[a-z-]*:iam::[0-9]{12}:KIND/([!-)+-~]+/)*name`; the name.
fn split_iam_arn<'a>(arn: &'a str, kind: &str) -> Option<&'a str> {
    let mut parts = arn.splitn(6, ':');
    let (head, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let resource = resource.strip_prefix(kind)?;
    let (path, name) = match resource.rsplit_once('/') {
        Some(("", _)) => return None,
        Some(both) => both,
        None => ("", resource),
    };
    let partition_ok =
        partition.strip_prefix("aws").is_some_and(|p| p.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    let sound = head == "arn"
        && partition_ok
        && service == "iam"
        && region.is_empty()
        && AccountId::parse(account).is_ok()
        && path.bytes().all(is_path);
    sound.then_some(name)
}

fn is_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)
}

/// Printable ASCII but `*`, which in a path would read as a wildcard.
fn is_path(b: u8) -> bool {
    (b'!'..=b'~').contains(&b) && b != b'*'
}

fn is_region(s: &str) -> bool {
    let mut parts = s.split('-');
    let first = parts.next().is_some_and(|p| p.len() >= 2 && p.bytes().all(|b| b.is_ascii_lowercase()));
    let mut rest: Vec<&str> = parts.collect();
    let number = rest.pop().is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    first
        && number
        && !rest.is_empty()
        && s.len() <= 32
        && rest.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[test]
    fn instance_ids_are_8_or_17_hex_digits() {
        for good in ["i-01234567", "i-0123456789abcdef0"] {
            assert_eq!(InstanceId::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "i-", "i-0123", "i-0123456789ABCDEF0", "mi-0123456789abcdef0", "i-0123456789abcdef0 ", "i-*"]
        {
            assert!(InstanceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn profile_arns_take_paths_and_every_partition() {
        for (arn, name) in [
            ("arn:aws:iam::123456789012:instance-profile/App", "App"),
            ("arn:aws-cn:iam::123456789012:instance-profile/a/b/App", "App"),
            ("arn:aws-us-gov:iam::123456789012:instance-profile/x:y/App", "App"),
        ] {
            let parsed = ProfileArn::parse(arn).unwrap();
            assert_eq!((parsed.name(), parsed.account()), (name, "123456789012"));
        }
        for bad in [
            "arn:aws:iam::123456789012:role/App",
            "arn:aws:iam::12345678901:instance-profile/App",
            "arn:aws:iam:eu-west-1:123456789012:instance-profile/App",
            "arn:aws:iam::123456789012:instance-profile/",
            "arn:aws:iam::123456789012:instance-profile//App",
            "arn:aws:iam::123456789012:instance-profile/*",
            "arn:aws:iam::123456789012:instance-profile/a*/App",
            "App",
        ] {
            assert!(ProfileArn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_malformed_value_is_told_with_its_form() {
        let told = Region::parse("Ireland").unwrap_err().to_string();
        assert_eq!(told, "Region `Ireland` is malformed: it reads like eu-west-1");
        assert!(Region::parse("us-gov-west-1").is_ok());
        assert!(Region::parse("eu-1").is_err());
    }

    /// Text, and text that is nearly a name: a good one with a wound.
    fn any_name() -> impl Strategy<Value = String> {
        let good = select(vec![
            "i-0123456789abcdef0",
            "i-01234567",
            "iip-assoc-0123456789abcdef0",
            "AIPAJMLUXXXXXXXEXAMPLE",
            "app",
            "123456789012",
            "eu-west-1",
            "us-gov-west-1",
            "arn:aws:iam::123456789012:instance-profile/app",
            "arn:aws-cn:iam::123456789012:instance-profile/a/b/app",
            "arn:aws:iam::123456789012:role/x:y/app",
        ]);
        let dirt = prop_oneof![
            select(vec!["", "/", ":", "*", "-", " ", "\n", "\0", "é", "A", "0", "::", "//", "../", "aws"])
                .prop_map(str::to_owned),
            ".{0,6}"
        ];
        let wounded = (good, 0_usize..60, 0_usize..3, dirt).prop_map(|(good, at, less, dirt)| {
            let at = at.min(good.len());
            let (before, after) = good.split_at(at);
            format!("{before}{dirt}{}", after.get(less..).unwrap_or_default())
        });
        prop_oneof![1 => ".{0,80}", 4 => wounded]
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic_and_what_parses_prints_the_same(text in any_name()) {
            let s = text.as_str();
            let printed = [
                InstanceId::parse(s).map(|v| v.to_string()),
                AssociationId::parse(s).map(|v| v.to_string()),
                ProfileId::parse(s).map(|v| v.to_string()),
                ProfileName::parse(s).map(|v| v.to_string()),
                RoleName::parse(s).map(|v| v.to_string()),
                AccountId::parse(s).map(|v| v.to_string()),
                Region::parse(s).map(|v| v.to_string()),
                ProfileArn::parse(s).map(|v| v.to_string()),
                RoleArn::parse(s).map(|v| v.to_string()),
            ];
            for outcome in printed {
                match outcome {
                    // Nothing that a log line, a filter or a form could stumble over.
                    Ok(printed) => prop_assert!(printed == s && s.bytes().all(|b| b.is_ascii_graphic())),
                    Err(malformed) => prop_assert!(malformed.value.chars().count() <= 80 && s.starts_with(&malformed.value)),
                }
            }
            if let Ok(arn) = ProfileArn::parse(s) {
                prop_assert!(ProfileName::parse(arn.name()).is_ok() && AccountId::parse(arn.account()).is_ok());
                prop_assert!(s.starts_with("arn:aws") && s.contains(":instance-profile/"));
            }
            if let Ok(arn) = RoleArn::parse(s) {
                prop_assert!(AccountId::parse(arn.account()).is_ok() && s.contains(":role/"));
            }
        }
    }
}
