//! From a request's path to the function that it reaches.

use std::collections::HashMap;
use std::sync::Arc;

use remuda_engine::EntryError;
use remuda_host::Function;
use remuda_manifest::{Abi, Endpoint};

/// A deployed function, and how HTTP reaches it.
#[derive(Debug)]
pub struct Mounted {
    /// The function.
    pub function: Arc<Function>,
    /// How HTTP reaches it.
    pub endpoint: Endpoint,
    /// How a request reaches its guest: as the endpoint says, or else as the module has it.
    pub(crate) abi: Abi,
}

impl Mounted {
    /// Mounts a function, if its module can be entered as the endpoint wants it.
    ///
    /// # Errors
    ///
    /// Returns an error if the module has no such entry; it says what the module has instead.
    pub fn new(function: Arc<Function>, endpoint: Endpoint) -> Result<Self, EntryError> {
        let abi = endpoint.abi.unwrap_or_else(|| Abi::of(function.module()));
        function.module().check_entry(&abi.entry())?;
        Ok(Self { function, endpoint, abi })
    }

    /// Whether bodies flow while the guest runs.
    pub(crate) fn streams(&self) -> bool {
        self.endpoint.stream || self.abi == Abi::Http
    }

    /// Whether a request may run on a thread that serves connections. A command that streams may have to wait there.
    pub(crate) fn may_run_inline(&self) -> bool {
        !self.endpoint.stream || self.abi == Abi::Http
    }
}

/// All routes of a deployment.
#[derive(Default)]
pub(crate) struct Routes {
    exact: HashMap<String, Mounted>,
    /// Routes of whole folders, as prefixes without their `/*`, the longest first.
    below: Vec<(String, Mounted)>,
}

/// The function that a request goes to, and the two parts of its path.
pub(crate) struct Routed<'a> {
    pub(crate) mounted: &'a Mounted,
    /// The part of the path that names the function: CGI's `SCRIPT_NAME`.
    pub(crate) script_name: &'a str,
    /// The part of the path that comes after it: CGI's `PATH_INFO`.
    pub(crate) path_info: &'a str,
}

impl Routes {
    pub(crate) fn new(functions: impl IntoIterator<Item = Mounted>) -> Self {
        let mut routes = Self::default();
        for mounted in functions {
            let route = &mounted.endpoint.route;
            match route.strip_suffix("/*") {
                None => {
                    routes.exact.insert(route.clone(), mounted);
                }
                Some(prefix) => routes.below.push((prefix.to_owned(), mounted)),
            }
        }
        routes.below.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        routes
    }

    /// The function for a path: the one with exactly this route, or else the one with the longest prefix.
    pub(crate) fn find<'a>(&'a self, path: &'a str) -> Option<Routed<'a>> {
        if let Some(mounted) = self.exact.get(path) {
            return Some(Routed { mounted, script_name: path, path_info: "" });
        }
        self.below.iter().find_map(|(prefix, mounted)| {
            let rest = path.strip_prefix(prefix.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some(Routed {
                mounted,
                script_name: prefix,
                path_info: rest,
            })
        })
    }

    /// All functions, in the order of their routes.
    pub(crate) fn list(&self) -> Vec<&Mounted> {
        let mut mounted: Vec<_> = self.exact.values().chain(self.below.iter().map(|(_, mounted)| mounted)).collect();
        mounted.sort_by_key(|mounted| &mounted.endpoint.route);
        mounted
    }
}
