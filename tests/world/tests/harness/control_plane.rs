//! The control plane is a real one: it serves, it holds to RBAC, it survives a restart.

use anyhow::Result;
use serde_json::json;
use world::ControlPlane;

const ACCOUNT_WITH_ONE_RIGHT: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: tenant}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: tenant}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: tenant}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: tenant}]
";

#[test]
fn a_service_account_may_do_what_its_role_says_and_no_more() -> Result<()> {
    let plane = ControlPlane::shared()?;
    plane.apply(ACCOUNT_WITH_ONE_RIGHT)?;
    let reader = plane.kubectl_with(&plane.kubeconfig_for("tenant", "reader")?);

    reader.run(&["get", "configmaps", "--namespace", "tenant"])?;
    let refused = reader.run(&["create", "configmap", "mine", "--namespace", "tenant"]).unwrap_err();
    assert!(refused.to_string().contains("system:serviceaccount:tenant:reader"), "{refused}");
    assert!(reader.run(&["get", "configmaps", "--namespace", "default"]).is_err());

    let calls = plane.calls_of_service_accounts()?;
    let seen: Vec<_> = calls
        .iter()
        .filter(|call| call.target() == "configmaps")
        .map(|call| (call.verb.as_str(), call.status.code, call.is_write()))
        .collect();
    assert_eq!(seen, [("list", 200, false), ("create", 403, true), ("list", 403, false)]);
    Ok(())
}

#[test]
fn kubectl_says_what_the_api_server_refuses() -> Result<()> {
    let plane = ControlPlane::shared()?;
    let refused = plane.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}").unwrap_err();
    assert!(refused.to_string().contains("metadata.name: Invalid value"), "{refused}");
    assert_eq!(plane.kubectl(&["get", "configmap", "none-such"])?.status.code(), Some(1));
    Ok(())
}

#[test]
fn the_api_client_creates_finds_changes_and_deletes() -> Result<()> {
    let api = ControlPlane::shared()?.api();
    let list = "/api/v1/namespaces/default/configmaps";
    let one = &format!("{list}/by-api");
    assert_eq!(api.find(one)?, None);
    api.create(list, &json!({"metadata": {"name": "by-api"}, "data": {"a": "1", "b": "2"}}))?;
    api.merge(one, &json!({"data": {"a": null}}))?;
    api.apply(one, &json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"c": "3"}}))?;
    assert_eq!(api.get(one)?["data"], json!({"b": "2", "c": "3"}));
    api.delete(one)?;
    let gone = api.get(one).unwrap_err().to_string();
    assert!(gone.contains("404") && gone.contains("by-api"), "{gone}");
    Ok(())
}

#[test]
fn the_api_server_can_be_restarted_paused_and_put_back_in_time() -> Result<()> {
    let plane = ControlPlane::start()?;
    let names = || -> Result<String> {
        plane.admin().run(&["get", "configmaps", "--namespace", "default", "--output", "name"])
    };
    plane.kubectl(&["create", "configmap", "first"])?;
    let backup = plane.backup()?;
    plane.kubectl(&["create", "configmap", "second"])?;

    plane.stop_api_server()?;
    assert!(names().is_err());
    plane.start_api_server()?;
    assert_eq!(names()?, "configmap/first\nconfigmap/second\n");

    plane.pause_api_server()?;
    let silence = plane.kubectl(&["get", "--raw", "/readyz", "--request-timeout", "1s"])?;
    assert!(!silence.status.success());
    plane.resume_api_server()?;

    plane.restore(&backup)?;
    assert_eq!(names()?, "configmap/first\n");
    Ok(())
}
