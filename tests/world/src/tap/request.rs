//! What a request asks, in words that are the same in every run.

use hyper::http::request::Parts;

/// Names a request to the API server or to AWS. Namespaces have another name in each run and are left out.
pub(super) fn name(head: &Parts, body: &[u8]) -> String {
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    match path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/")) {
        None => of_aws(head, body),
        Some(rest) => of_kubernetes(head.method.as_str(), rest, query),
    }
}

fn of_kubernetes(method: &str, path: &str, query: &str) -> String {
    // VERSION/… of the core group, GROUP/VERSION/… of the others.
    let before = if path.starts_with("v1/") { 1 } else { 2 };
    let rest: Vec<&str> = path.split('/').skip(before).collect();
    let (target, many) = match rest.as_slice() {
        ["namespaces"] => ("namespaces".to_owned(), true),
        ["namespaces", _] => ("namespaces".to_owned(), false),
        ["namespaces", _, rest @ ..] | rest => (rest.join("/"), rest.len() == 1),
    };
    format!("{} {target}", verb(method, query, many))
}

fn verb<'m>(method: &'m str, query: &str, many: bool) -> &'m str {
    match (method, many) {
        ("GET", _) if query.contains("watch=") => "WATCH",
        ("GET", true) => "LIST",
        _ => method,
    }
}

fn of_aws(head: &Parts, body: &[u8]) -> String {
    let form = String::from_utf8_lossy(body);
    let parameter = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    // …/REGION/SERVICE/aws4_request, in the signature.
    let signature =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let service = signature.split('/').nth(3).unwrap_or("aws");
    let dry = if parameter("DryRun").is_some() { " (dry run)" } else { "" };
    format!("{service} {}{dry}", parameter("Action").unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn named(method: &str, uri: &str, body: &str) -> String {
        let scope =
            "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host";
        let request = Request::builder().method(method).uri(uri).header("authorization", scope).body(());
        name(&request.unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn requests_are_named_by_what_they_ask_and_not_by_where() {
        let ours = "/apis/instancerole.dev/v1alpha1";
        for (method, uri, body, told) in [
            (
                "PATCH",
                format!("{ours}/namespaces/x-1/instancerolebindings/web/status?a=b"),
                "",
                "PATCH instancerolebindings/web/status",
            ),
            (
                "GET",
                format!("{ours}/namespaces/x-1/instancerolebindings?watch=true"),
                "",
                "WATCH instancerolebindings",
            ),
            ("GET", format!("{ours}/instancerolegrants?limit=500"), "", "LIST instancerolegrants"),
            ("GET", format!("{ours}/instancerolegrants/all"), "", "GET instancerolegrants/all"),
            ("GET", "/api/v1/namespaces/x-1".to_owned(), "", "GET namespaces"),
            ("GET", "/api/v1/namespaces?limit=500".to_owned(), "", "LIST namespaces"),
            ("POST", "/apis/events.k8s.io/v1/namespaces/x-1/events".to_owned(), "", "POST events"),
            (
                "POST",
                "/".to_owned(),
                "Action=AssociateIamInstanceProfile&DryRun=true",
                "ec2 AssociateIamInstanceProfile (dry run)",
            ),
            ("POST", "/".to_owned(), "Version=1&Action=DescribeInstances", "ec2 DescribeInstances"),
        ] {
            assert_eq!(named(method, &uri, body), told);
        }
    }
}
