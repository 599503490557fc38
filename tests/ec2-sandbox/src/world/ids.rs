//! The syntax of ids. A well-formed id that does not exist and one that cannot exist get different answers.

use crate::error::ApiError;

/// Whether `id` could be the id of an instance: `i-` and 8 or 17 lower-case hexadecimal digits, not all zero
/// (CAP-T: the all-zero id is malformed).
pub fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-").is_some_and(|digits| (digits.len() == 8 || digits.len() == 17) && is_number(digits))
}

/// Whether `id` could be the id of an association (CAP-T: the all-zero id is not).
pub fn is_association_id(id: &str) -> bool {
    id.strip_prefix("iip-assoc-").is_some_and(|digits| digits.len() == 17 && is_number(digits))
}

fn is_number(digits: &str) -> bool {
    digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && digits.bytes().any(|byte| byte != b'0')
}

pub fn check_instance_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() {
        return Err(ApiError::missing("InstanceId"));
    }
    if is_instance_id(id) {
        return Ok(());
    }
    Err(ApiError::bad("InvalidInstanceID.Malformed", format!("The instance ID '{id}' is malformed")))
}

pub fn check_association_id(id: &str) -> Result<(), ApiError> {
    if id.is_empty() {
        return Err(ApiError::missing("AssociationId"));
    }
    if is_association_id(id) { Ok(()) } else { Err(ApiError::invalid_value(format!("Invalid Id: {id}"))) }
}

pub fn no_such_instance(id: &str) -> ApiError {
    ApiError::bad("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}

pub fn no_such_association(id: &str) -> ApiError {
    ApiError::bad("InvalidAssociationID.NotFound", format!("An invalid association-id of '{id}' was given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_hexadecimal_and_not_all_zero() {
        for (id, expected) in [
            ("i-0123456789abcdef0", true),
            ("i-12345678", true),
            ("i-00000000000000000", false),
            ("i-00000000", false),
            ("i-0123456789ABCDEF0", false),
            ("i-0123456789abcdef", false),
            ("mi-0123456789abcdef0", false),
            ("i-0123456789abcdefg", false),
        ] {
            assert_eq!(is_instance_id(id), expected, "{id}");
        }
        assert!(is_association_id("iip-assoc-0123456789abcdef0"));
        assert!(!is_association_id("iip-assoc-00000000000000000"));
        assert!(!is_association_id("iip-assoc-12345678"));
    }
}
