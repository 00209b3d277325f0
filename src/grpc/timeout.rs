//! The caller's deadline, `grpc-timeout`: tonic enforces it only in its own server loop, which we do not use. It covers the
//! time to the response's headers, so a unary call as a whole and a stream until it begins.

use crate::status::deadline_exceeded;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use std::time::Duration;

pub(crate) async fn enforce(request: Request, next: Next) -> Response {
    let Some(limit) = parse(request.headers()) else { return next.run(request).await };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => deadline_exceeded().into_http(),
    }
}

/// One to eight digits and a unit. What does not parse is no deadline.
fn parse(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline() {
        let slow = get(|| tokio::time::sleep(Duration::from_secs(5)));
        let router = axum::Router::new().route("/", slow).layer(axum::middleware::from_fn(enforce));
        for (limit, status) in [("1S", Some("4")), ("10S", None)] {
            let request = Request::get("/").header("grpc-timeout", limit).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let found = response.headers().get("grpc-status").map(|s| s.to_str().unwrap());
            assert_eq!(found, status, "{limit}");
        }
    }

    #[test]
    fn deadlines_as_clients_write_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            parse(&headers)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "1\u{e9}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
