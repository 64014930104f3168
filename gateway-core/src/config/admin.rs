//! `admin`: where the gateway answers questions about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::AdminAddress;
use super::secret::SecretConfig;

/// The admin interface; without this section there is none.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// `127.0.0.1:9901`, or `unix:/run/gateway/admin.sock` for a socket of the file system.
    pub address: AdminAddress,
    /// The token that calls which change something must bring over TCP; none: they are refused.
    #[serde(default)]
    pub token: Option<SecretConfig>,
}
