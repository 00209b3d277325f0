//! `/metrics`: there on every node, for whoever administers it and for nobody else.

use crate::support::http::Request;
use crate::support::{ADMIN_KEY, KEY, TestNode};

#[tokio::test]
async fn only_the_admin_key_reads_them() {
    let node = TestNode::start_with(|config| config.keys.admin_key = Some(ADMIN_KEY.to_owned().into())).await;
    let ask = || Request::new("GET", "/metrics");
    for nobody in [ask(), ask().header("Authorization", ""), ask().header("Authorization", "Bearer ")] {
        let answer = nobody.send(&node.url).await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "the admin key is missing\n"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for other in [KEY, "tr_pat_none", &ADMIN_KEY[1..], &format!("{ADMIN_KEY}x")] {
        let answer = ask().bearer(other).send(&node.url).await;
        assert_eq!((answer.status, answer.text().as_str()), (403, "not the admin key\n"), "{other}");
    }
    let answer = ask().bearer(ADMIN_KEY).send(&node.url).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.contains("continuo_info{version=\"") && text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("sessions_replication"), "what this node cannot do is not counted: {text}");
    assert_eq!(Request::new("POST", "/metrics").bearer(ADMIN_KEY).send(&node.url).await.status, 405);
}
