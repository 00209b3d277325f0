//! The query string of lists and drains.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use continuo_proto::v1::PageDirection;
use http::request::Parts;

use crate::{
    error::Failure,
    time,
    validate::{Issue, Step},
};

const PAGE_SIZE_MAX: i32 = 100;

/// Decoded pairs, in order.
pub(crate) struct Query(Vec<(String, String)>);

/// Which page of a list.
#[derive(Default)]
pub(crate) struct Page {
    /// 0 if not given.
    pub(crate) size: i32,
    /// The token.
    pub(crate) token: String,
    /// Which way from its place.
    pub(crate) direction: PageDirection,
    /// The parameter that held it.
    pub(crate) cursor: &'static str,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter, whether repeated or joined with commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(n, _)| n == name).flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }

    /// `page[size]`, `page[after]` and `page[before]`.
    pub(crate) fn page(&self) -> Result<Page, Failure> {
        let size = self.one("page[size]").map(page_size).transpose()?.unwrap_or(0);
        let given = |name| self.one(name).filter(|token| !token.is_empty());
        match (given("page[after]"), given("page[before]")) {
            (Some(_), Some(_)) => {
                Err(issue("custom", "page[after]", "Cannot pass both page[after] and page[before] on the same request"))
            }
            (Some(token), None) => {
                Ok(Page { size, token: token.to_owned(), direction: PageDirection::Older, cursor: "page[after]" })
            }
            (None, Some(token)) => {
                Ok(Page { size, token: token.to_owned(), direction: PageDirection::Newer, cursor: "page[before]" })
            }
            (None, None) => Ok(Page { size, cursor: "page[after]", ..Page::default() }),
        }
    }

    /// As [`Self::page`], for lists whose pages the SDK turns in both directions: on the way back it still sends where it came
    /// from on the way there.
    pub(crate) fn page_either_way(&self) -> Result<Page, Failure> {
        match self.one("page[before]").filter(|token| !token.is_empty()) {
            None => self.page(),
            Some(token) => {
                let size = self.one("page[size]").map(page_size).transpose()?.unwrap_or(0);
                Ok(Page { size, token: token.to_owned(), direction: PageDirection::Newer, cursor: "page[before]" })
            }
        }
    }

    /// `filter[createdAt]`: from and to in milliseconds; a period counts back from now, and the later start holds.
    pub(crate) fn created(&self) -> Result<(Option<i64>, Option<i64>), Failure> {
        let from = self.milliseconds("filter[createdAt][from]")?;
        let to = self.milliseconds("filter[createdAt][to]")?;
        let period = self.one("filter[createdAt][period]").and_then(time::parse_duration_ms);
        // Nothing is older than the epoch: a longer period means all.
        let since = period.map(|ms| time::now_ms().saturating_sub_unsigned(ms).max(0));
        Ok((from.max(since), to))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, name: &'static str) -> Result<Option<bool>, Failure> {
        let Some(text) = self.one(name).map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
        let message = "Expected 'true' or 'false'";
        text.parse().map(Some).map_err(|_| issue("invalid_enum_value", name, message))
    }

    /// A whole number.
    pub(crate) fn whole(&self, name: &'static str) -> Result<Option<i32>, Failure> {
        let Some(text) = self.one(name).map(str::trim) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| not_a_whole_number(name, text))
    }

    fn milliseconds(&self, name: &'static str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.one(name).map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| not_a_whole_number(name, text))
    }
}

fn page_size(text: &str) -> Result<i32, Failure> {
    let name = "page[size]";
    match text.trim().parse::<i32>() {
        Ok(size) if size < 1 => Err(issue("too_small", name, "Number must be greater than or equal to 1")),
        Ok(size) if size > PAGE_SIZE_MAX => Err(issue("too_big", name, "Number must be less than or equal to 100")),
        Ok(size) => Ok(size),
        Err(_) => Err(not_a_whole_number(name, text)),
    }
}

fn not_a_whole_number(name: &'static str, text: &str) -> Failure {
    let is_number = text.trim().parse::<f64>().is_ok();
    issue(
        "invalid_type",
        name,
        if is_number { "Expected integer, received float" } else { "Expected number, received nan" },
    )
}

/// A Query Error about one parameter.
pub(crate) fn issue(code: &'static str, name: &'static str, message: impl Into<String>) -> Failure {
    Failure::query(vec![Issue::new(code, vec![Step::key(name)], message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_trimmed_and_repeated() {
        let query = Query::parse("filter%5Btags%5D=a,%20b,&filter[tags]=c+d&x");
        assert_eq!(query.list("filter[tags]"), ["a", "b", "c d"]);
        assert_eq!(query.one("x"), Some(""));
        assert!(query.list("filter[type]").is_empty());
    }

    #[test]
    fn pages() {
        assert_eq!(Query::parse("").page().unwrap_or_default().size, 0);
        assert_eq!(
            Query::parse("page[size]=7&page[before]=t").page().map(|p| (p.size, p.cursor, p.direction)).ok(),
            Some((7, "page[before]", PageDirection::Newer))
        );
        for bad in ["page[size]=0", "page[size]=101", "page[size]=x", "page[size]=1.5", "page[after]=a&page[before]=b"]
        {
            assert!(Query::parse(bad).page().is_err(), "{bad}");
        }
        // An empty one is not given, as with filters.
        for (query, token) in
            [("page[after]=", ""), ("page[after]=&page[before]=b", "b"), ("page[after]=a&page[before]=", "a")]
        {
            assert_eq!(Query::parse(query).page().map(|page| page.token).ok().as_deref(), Some(token), "{query}");
            assert_eq!(Query::parse(query).page_either_way().map(|page| page.token).ok().as_deref(), Some(token));
        }
        let back = Query::parse("page[after]=a&page[before]=b").page_either_way();
        assert_eq!(back.map(|page| page.token).ok().as_deref(), Some("b"));
        assert!(Query::parse("page[before]=b&page[size]=0").page_either_way().is_err());
    }

    #[test]
    fn the_later_start_holds() {
        let (from, to) = Query::parse("filter[createdAt][period]=1h&filter[createdAt][from]=5&filter[createdAt][to]=9")
            .created()
            .ok()
            .unwrap_or_default();
        assert!(from.is_some_and(|from| from > 5));
        assert_eq!(to, Some(9));
        assert_eq!(Query::parse("filter[createdAt][period]=99999999w").created().ok(), Some((Some(0), None)));
        assert_eq!(Query::parse("filter[createdAt][period]=soon").created().ok(), Some((None, None)));
    }
}
