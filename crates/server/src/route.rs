//! From a path to a function.

use std::collections::HashMap;
use std::sync::Arc;

use remuda_host::Function;

/// All routes of a deployment.
#[derive(Default)]
pub(crate) struct Routes {
    exact: HashMap<String, Arc<Function>>,
    /// Prefixes without their `/*`, the longest first.
    below: Vec<(String, Arc<Function>)>,
}

/// Where a request goes.
pub(crate) struct Routed<'a> {
    pub(crate) function: &'a Arc<Function>,
    /// The part of the path that names the function: CGI's `SCRIPT_NAME`.
    pub(crate) script_name: &'a str,
    /// What comes after it: CGI's `PATH_INFO`.
    pub(crate) path_info: &'a str,
}

impl Routes {
    pub(crate) fn new(functions: impl IntoIterator<Item = Arc<Function>>) -> Self {
        let mut routes = Self::default();
        for function in functions {
            let route = &function.spec().route;
            match route.strip_suffix("/*") {
                None => {
                    routes.exact.insert(route.clone(), function);
                }
                Some(prefix) => routes.below.push((prefix.to_owned(), function)),
            }
        }
        routes.below.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        routes
    }

    /// The function for a path: of that exact route, else of the longest prefix.
    pub(crate) fn find<'a>(&'a self, path: &'a str) -> Option<Routed<'a>> {
        if let Some(function) = self.exact.get(path) {
            return Some(Routed { function, script_name: path, path_info: "" });
        }
        self.below.iter().find_map(|(prefix, function)| {
            let rest = path.strip_prefix(prefix.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some(Routed {
                function,
                script_name: prefix,
                path_info: rest,
            })
        })
    }

    /// Every function, by its route.
    pub(crate) fn list(&self) -> Vec<&Arc<Function>> {
        let mut functions: Vec<_> =
            self.exact.values().chain(self.below.iter().map(|(_, function)| function)).collect();
        functions.sort_by_key(|function| &function.spec().route);
        functions
    }
}
