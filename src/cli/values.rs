//! How the values of flags are read.

use std::sync::Arc;
use std::time::Duration;

use crate::api::binding::Operation;
use crate::decide::Ceiling;
use crate::ec2::budget::Limit;
use crate::ids::{InstanceId, Region};

/// A duration such as `500ms`, `10s` or `5m`; not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let form = "a duration such as 500ms, 10s or 5m";
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err(format!("it must be more than zero: {form}")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; expected {form}")),
    }
}

/// A share: above 0, at most 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        Ok(_) | Err(_) => Err("expected a number above 0 and at most 1, such as 0.5".into()),
    }
}

/// `Operation=burst,per_second`.
pub fn budget(text: &str) -> Result<(Operation, Limit), String> {
    let form = "expected Operation=burst,per_second, such as AssociateIamInstanceProfile=200,10";
    let (operation, numbers) = text.split_once('=').ok_or(form)?;
    let operation = match operation {
        "AssociateIamInstanceProfile" => Operation::AssociateIamInstanceProfile,
        "ReplaceIamInstanceProfileAssociation" => Operation::ReplaceIamInstanceProfileAssociation,
        "DisassociateIamInstanceProfile" => Operation::DisassociateIamInstanceProfile,
        other => {
            return Err(format!(
                "unknown operation {other}: it is AssociateIamInstanceProfile, ReplaceIamInstanceProfileAssociation or DisassociateIamInstanceProfile"
            ));
        }
    };
    let (burst, per_second) = numbers.split_once(',').ok_or(form)?;
    let number =
        |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0).ok_or(form);
    let burst = number(burst)?;
    if burst < 1.0 {
        return Err(format!("burst must be at least 1; {form}"));
    }
    Ok((operation, Limit { burst, per_second: number(per_second)? }))
}

/// A number, or a share in percent such as `20%`.
pub fn ceiling(text: &str) -> Result<Ceiling, String> {
    let form = "expected a number such as 50, or a share such as 20%; leave it out to turn it off";
    let most = match text.strip_suffix('%') {
        Some(share) => share.parse().ok().filter(|share| (1..=100).contains(share)).map(Ceiling::Percent),
        None => text.parse().ok().filter(|number| *number > 0).map(Ceiling::Number),
    };
    most.ok_or_else(|| form.to_owned())
}

/// `key=value` of a tag; the value may be empty, and what follows the first `=` belongs to it.
pub fn tag(text: &str) -> Result<(Arc<str>, Arc<str>), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 128 && value.len() <= 256 => {
            Ok((key.into(), value.into()))
        }
        Some(_) | None => Err("expected key=value, such as instancerole.dev/managed=true".into()),
    }
}

/// An instance id.
pub fn instance(text: &str) -> Result<InstanceId, String> {
    InstanceId::parse(text).map_err(|malformed| malformed.to_string())
}

/// A Region.
pub fn region(text: &str) -> Result<Region, String> {
    Region::parse(text).map_err(|malformed| malformed.to_string())
}

/// The name of a namespace.
pub fn namespace(text: &str) -> Result<String, String> {
    let ends = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let well_formed = text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(inside);
    well_formed
        .then(|| text.to_owned())
        .ok_or_else(|| "expected the name of a namespace: lower-case letters, digits and -".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_key_and_a_value() {
        let read = |text| tag(text).map(|(key, value)| format!("{key}|{value}"));
        assert_eq!(read("managed=true"), Ok("managed|true".into()));
        assert_eq!(read("a/b=c=d"), Ok("a/b|c=d".into()));
        assert_eq!(read("empty="), Ok("empty|".into()));
        for bad in ["", "managed", "=true"] {
            assert!(tag(bad).unwrap_err().contains("key=value"), "{bad}");
        }
    }

    #[test]
    fn a_ceiling_is_a_number_or_a_share() {
        assert_eq!(ceiling("50"), Ok(Ceiling::Number(50)));
        assert_eq!(ceiling("20%"), Ok(Ceiling::Percent(20)));
        for bad in ["", "0", "0%", "101%", "-1", "%", "1.5", "20 %", "off"] {
            assert!(ceiling(bad).unwrap_err().contains("such as 20%"), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "0s", "5", "-1s", "soon"] {
            assert!(duration(bad).unwrap_err().contains("such as 500ms"), "{bad}");
        }
    }

    #[test]
    fn shares_are_above_zero_and_at_most_one() {
        assert_eq!(share("0.5"), Ok(0.5));
        for bad in ["0", "1.1", "-1", "NaN", "half", ""] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets_name_an_operation_and_two_numbers() {
        let (operation, limit) = budget("ReplaceIamInstanceProfileAssociation=150,15").unwrap();
        assert_eq!(
            (operation, limit),
            (Operation::ReplaceIamInstanceProfileAssociation, Limit { burst: 150.0, per_second: 15.0 })
        );
        for bad in [
            "",
            "Replace=1,1",
            "AssociateIamInstanceProfile=1",
            "AssociateIamInstanceProfile=0,1",
            "AssociateIamInstanceProfile=1,NaN",
        ] {
            assert!(budget(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_flag_panic_and_what_is_taken_is_sound(
            text in ".{0,40}",
            number in "[-+]?[0-9]{0,25}(\\.[0-9]{0,5})?(e[0-9]{1,3})?|NaN|inf",
            unit in "(ms|s|m|h|d|w|y|us|ns|weeks|x)?",
        ) {
            let of = "ReplaceIamInstanceProfileAssociation";
            for text in [text.clone(), number.clone(), format!("{number}{unit}"), format!("{number}{unit} {number}{unit}"),
                format!("{of}={number},{number}"), format!("{text}={number}"), format!("{number},{text}"), format!("i-{text}")] {
                if let Ok(time) = duration(&text) {
                    proptest::prop_assert!(!time.is_zero());
                }
                if let Ok(share) = share(&text) {
                    proptest::prop_assert!(share > 0.0 && share <= 1.0);
                }
                if let Ok((_, limit)) = budget(&text) {
                    proptest::prop_assert!(limit.burst >= 1.0 && limit.burst.is_finite() && limit.per_second > 0.0 && limit.per_second.is_finite());
                }
                if let Ok((key, value)) = tag(&text) {
                    proptest::prop_assert_eq!(format!("{key}={value}"), text.clone());
                }
                if let Ok(id) = instance(&text) {
                    proptest::prop_assert_eq!(id.as_str(), text.as_str());
                }
            }
        }
    }
}
