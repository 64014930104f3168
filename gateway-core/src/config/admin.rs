//! `admin`: where the gateway answers questions about itself.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::AdminAddress;
use super::file_path;
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

impl AdminConfig {
    /// The same, with relative paths seen from the folder of the document, as loading sees them.
    pub(crate) fn seen_from(mut self, folder: &Path) -> Self {
        let against = |path: &Path| file_path::against(&path.to_string_lossy(), folder).into();
        if let AdminAddress::Unix(path) = &mut self.address {
            *path = against(path);
        }
        if let Some(SecretConfig::File(path)) = &mut self.token {
            path.0 = against(path);
        }
        self
    }
}
