//! Labels on the objects that operator and connector share.

/// Which kind of object a Lease is: see [`COMPONENT_MEMBER`], [`COMPONENT_CLAIM`] and [`COMPONENT_IMPORT`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT`] on the Lease of a member (one incarnation of a pod).
pub const COMPONENT_MEMBER: &str = "member";
/// Value of [`COMPONENT`] on the Lease that is the claim on a partition and its checkpoint.
pub const COMPONENT_CLAIM: &str = "claim";
/// Value of [`COMPONENT`] on the Lease that keeps the import of devices.
pub const COMPONENT_IMPORT: &str = "import";
/// Value of [`COMPONENT`] on everything else that belongs to a connector.
pub const COMPONENT_CONNECTOR: &str = "connector";
/// The product; the same on every object that this project makes.
pub const NAME: &str = "app.kubernetes.io/name";
/// Value of [`NAME`].
pub const NAME_VALUE: &str = "azure-iot-hub-connector";
/// Name of the custom resource that an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Who maintains the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "azure-iot-hub-operator";
