//! skeleton
fn main() {
    for c in instance_role_controller::api::crds() {
        println!("{}", serde_yaml::to_string(&c).unwrap_or_default());
        println!("---");
    }
}
