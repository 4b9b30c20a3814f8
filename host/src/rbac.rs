//! May they do it? Roles are sets of permissions; a user has roles; a [`Permit`](permit::Permit) is the proof of a yes and
//! can be made only here. The records of tenants, users and roles are here too: each is a value in the kernel's own space,
//! read and staged through a unit of work, so a name is given once and the last owner stays, whoever else is at it.

pub mod directory;
pub mod membership;
pub mod name;
pub mod permission;
pub mod permit;
pub mod refusal;
pub mod role;
pub mod tenant;
pub mod user;

pub use directory::Directory;
