//! From a request to the function that answers it. The patterns are those of `cell.toml`; the host has already decided
//! that the request may come in, so the router only finds the function and the parameters.

use crate::pattern;
use crate::{Problem, Reply, Request};

/// Answers one request. A [`Problem`] discards what was staged unless it says otherwise.
pub type Answer = fn(&Request) -> Result<Reply, Problem>;

/// A table of routes, tried by specificity: a literal segment before a `{parameter}` before the `{*rest}`.
pub struct Router {
    routes: Vec<Route>,
}

struct Route {
    /// `None` takes every method: a `[[trigger.call]]` names none.
    method: Option<&'static str>,
    pattern: &'static str,
    answer: Answer,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// No routes yet. The table is built for every call, so there is room at once for as many as most cells have.
    #[must_use]
    pub fn new() -> Self {
        Self { routes: Vec::with_capacity(16) }
    }

    /// Answers `GET` at a pattern.
    #[must_use]
    pub fn get(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(Some("GET"), pattern, answer)
    }

    /// Answers `POST` at a pattern.
    #[must_use]
    pub fn post(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(Some("POST"), pattern, answer)
    }

    /// Answers `PUT` at a pattern.
    #[must_use]
    pub fn put(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(Some("PUT"), pattern, answer)
    }

    /// Answers `PATCH` at a pattern.
    #[must_use]
    pub fn patch(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(Some("PATCH"), pattern, answer)
    }

    /// Answers `DELETE` at a pattern.
    #[must_use]
    pub fn delete(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(Some("DELETE"), pattern, answer)
    }

    /// Answers every method at a pattern.
    #[must_use]
    pub fn any(self, pattern: &'static str, answer: Answer) -> Self {
        self.route(None, pattern, answer)
    }

    fn route(mut self, method: Option<&'static str>, pattern: &'static str, answer: Answer) -> Self {
        self.routes.push(Route { method, pattern, answer });
        self
    }

    /// Runs the route that fits: 404 `NOT_FOUND` when no pattern does, 405 `METHOD_NOT_ALLOWED` when only the method is
    /// wrong, 400 when the path is not percent-encoded UTF-8.
    pub fn answer(&self, request: Request) -> Result<Reply, Problem> {
        let segments = pattern::decode_segments(request.path())
            .ok_or_else(|| Problem::invalid("", "the path is not percent-encoded UTF-8"))?;
        let fitting = self
            .routes
            .iter()
            .filter(|route| pattern::may_fit(route.pattern, request.path()) && pattern::fits(route.pattern, &segments));
        let chosen = fitting
            .clone()
            .filter(|route| route.method.is_none_or(|method| method == request.method()))
            .min_by(|a, b| pattern::by_specificity(a.pattern, b.pattern));
        if let Some(route) = chosen {
            let parameters = pattern::parameters(route.pattern, &segments);
            drop(segments);
            return (route.answer)(&request.with_parameters(parameters));
        }
        let allowed: Vec<&str> = fitting.filter_map(|route| route.method).collect();
        if allowed.is_empty() {
            return Err(Problem::not_found("There is nothing at this path."));
        }
        let detail = format!("{} is not possible here.", request.method());
        Err(Problem::new(405, "METHOD_NOT_ALLOWED", detail).header("allow", allowed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(request: &Request) -> Result<Reply, Problem> {
        Ok(Reply::text(200, request.parameter("id")?))
    }

    #[expect(clippy::unnecessary_wraps, reason = "every route has this signature")]
    fn fixed(_: &Request) -> Result<Reply, Problem> {
        Ok(Reply::text(200, "fixed"))
    }

    fn table() -> Router {
        Router::new()
            .get("/payments/{id}", echo)
            .get("/payments/ping", fixed)
            .post("/payments/{id}", echo)
            .any("/files/{*id}", echo)
    }

    fn ask(method: &str, path: &str) -> Result<String, u16> {
        table()
            .answer(Request::new(method, path))
            .map(|reply| String::from_utf8(reply.into_body()).expect("text"))
            .map_err(|problem| problem.status())
    }

    #[test]
    fn a_literal_goes_before_a_parameter() {
        assert_eq!(ask("GET", "/payments/ping"), Ok("fixed".to_owned()));
        assert_eq!(ask("GET", "/payments/42"), Ok("42".to_owned()));
        assert_eq!(ask("POST", "/payments/ping"), Ok("ping".to_owned()));
    }

    #[test]
    fn parameters_are_percent_decoded() {
        assert_eq!(ask("GET", "/payments/a%2Fb%20c"), Ok("a/b c".to_owned()));
        assert_eq!(ask("PUT", "/files/a/b%20c"), Ok("a/b c".to_owned()));
        assert_eq!(ask("GET", "/payments/%ff"), Err(400));
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(ask("GET", "/payments"), Err(404));
        assert_eq!(ask("GET", "/payments/"), Err(404));
        assert_eq!(ask("GET", "/payments/1/2"), Err(404));
        assert_eq!(ask("DELETE", "/payments/1"), Err(405));
    }
}
