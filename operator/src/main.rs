//! Temporary.
fn main() {
    print!("{}", operator::api::crd::yaml().unwrap_or_default());
}
