//! No route escapes: the URL table is walked, so a new route is refused to strangers or a test fails.

mod every_route;
mod rules;
mod tenants_apart;
