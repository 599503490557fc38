//! The name of the Lease: one for all replicas that see the same bindings.

use sha2::{Digest, Sha256};

/// The Lease of a controller that sees all bindings, and what the names of others begin with.
const NAME: &str = "instance-role-controller";

/// The name of the Lease for those who watch these namespaces (none: all) with this label selector. The order of
/// namespaces and of a selector's requirements, and spaces, make no difference. It must never change: in a rolling update
/// the old and the new version stand for the same Lease.
pub fn lease_name(namespaces: &[String], selector: Option<&str>) -> String {
    let mut namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let selector = requirements(selector.unwrap_or_default());
    if namespaces.is_empty() && selector.is_empty() {
        return NAME.to_owned();
    }
    let digest = Sha256::digest(format!("{}\n{}", namespaces.join(","), selector.join(",")));
    let hexadecimal: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{NAME}-{hexadecimal}")
}

/// The requirements of a label selector, sorted: they are parted by commas that stand in no parentheses.
fn requirements(selector: &str) -> Vec<String> {
    let (mut all, mut one, mut depth) = (Vec::new(), String::new(), 0_usize);
    for c in selector.chars() {
        match c {
            ',' if depth == 0 => all.push(std::mem::take(&mut one)),
            _ => {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                one.push(c);
            }
        }
    }
    all.push(one);
    // Words stay apart: `a in (b)` is not `ain(b)`.
    let mut all: Vec<String> =
        all.iter().map(|one| one.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    all.retain(|one| !one.is_empty());
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(namespaces: &[&str], selector: Option<&str>) -> String {
        lease_name(&namespaces.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), selector)
    }

    #[test]
    fn one_that_sees_all_has_the_plain_name() {
        assert_eq!(name(&[], None), "instance-role-controller");
        assert_eq!(name(&[], Some(" ")), "instance-role-controller");
    }

    #[test]
    fn the_names_of_shards_stay_as_they_are() {
        assert_eq!(name(&["team-a"], None), "instance-role-controller-2317674905");
        assert_eq!(name(&[], Some("shard=1")), "instance-role-controller-be9b512884");
    }

    #[test]
    fn the_same_shard_has_the_same_name_however_it_is_written() {
        assert_eq!(
            name(&["b", "a", "b"], Some("x=1, y in (2,3)")),
            name(&["a", "b"], Some("y in (2,3),x=1"))
        );
        let shards = [
            name(&["a"], None),
            name(&["b"], None),
            name(&["a", "b"], None),
            name(&[], Some("a")),
            name(&[], Some("a=1")),
            name(&["a"], Some("a=1")),
            name(&[], Some("a in (1,2)")),
            name(&[], Some("a in (1),2)")),
        ];
        let different: std::collections::BTreeSet<&String> = shards.iter().collect();
        assert_eq!(different.len(), shards.len(), "{shards:?}");
    }
}
