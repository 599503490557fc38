//! Matching of `*` and `?`, of actions and of ARNs.

/// Whether `text` matches `pattern`, in which `*` is any run of characters and `?` exactly one.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || Some(&byte) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// Actions are compared without regard to case.
pub fn action_matches(pattern: &str, action: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}

/// ARNs are compared part by part, so that a `*` does not reach over a colon into the next of the six parts.
pub fn arn_matches(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let patterns: Vec<&str> = pattern.splitn(6, ':').collect();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(pattern, part)| matches(pattern, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_path_prefix_does_not_match_a_look_alike() {
        let prefix = "arn:aws:iam::123456789012:instance-profile/team/*";
        assert!(arn_matches(prefix, "arn:aws:iam::123456789012:instance-profile/team/app"));
        assert!(!arn_matches(prefix, "arn:aws:iam::123456789012:instance-profile/teamster/app"));
    }

    #[test]
    fn a_star_does_not_reach_over_a_colon() {
        assert!(!arn_matches("arn:aws:ec2:*:instance/*", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1"));
    }

    #[test]
    fn actions_ignore_case() {
        assert!(action_matches("EC2:describe*", "ec2:DescribeInstances"));
    }
}
