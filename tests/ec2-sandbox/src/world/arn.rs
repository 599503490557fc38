//! ARNs and partitions.

/// The partition of a Region.
pub fn partition_of(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

pub fn iam(partition: &str, account: &str, kind: &str, path: &str, name: &str) -> String {
    format!("arn:{partition}:iam::{account}:{kind}{path}{name}")
}

pub fn instance(region: &str, account: &str, id: &str) -> String {
    format!("arn:{}:ec2:{region}:{account}:instance/{id}", partition_of(region))
}

/// Account, path and name of a role or profile ARN.
pub fn parse_iam(arn: &str, kind: &str) -> Option<IamArn> {
    let mut parts = arn.splitn(6, ':');
    let (Some("arn"), Some(partition), Some("iam"), Some(""), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let (path, name) = resource.strip_prefix(kind)?.rsplit_once('/')?;
    Some(IamArn {
        partition: partition.to_owned(),
        account: account.to_owned(),
        path: format!("{path}/"),
        name: name.to_owned(),
    })
}

/// The parts of an ARN of a role or profile.
#[derive(Debug, PartialEq)]
pub struct IamArn {
    pub partition: String,
    pub account: String,
    pub path: String,
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iam_arn_falls_into_its_parts() {
        let arn = parse_iam("arn:aws-cn:iam::123456789012:role/a/b/app", "role").unwrap();
        assert_eq!(
            (arn.partition.as_str(), arn.path.as_str(), arn.name.as_str()),
            ("aws-cn", "/a/b/", "app")
        );
        assert_eq!(parse_iam("arn:aws:iam::123456789012:role/app", "role").unwrap().path, "/");
        assert_eq!(parse_iam("arn:aws:iam::123456789012:user/app", "role"), None);
    }
}
