use super::*;
use proptest::prelude::*;
use serde_json::json;

fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
    let mut splitter = Splitter::default();
    let mut out = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, &mut out);
    }
    out
}

fn errors(frames: &[Frame]) -> usize {
    frames
        .iter()
        .filter(|f| matches!(f, Frame::Error(_)))
        .count()
}

#[test]
fn values_need_no_newline_and_may_share_a_write() {
    let got = frames(&[br#"{"execute":"a"}{"execute":"b"}  {'execute': 'c"d\'e'}"#]);
    assert_eq!(
        got,
        [
            Frame::Value(json!({"execute": "a"})),
            Frame::Value(json!({"execute": "b"})),
            Frame::Value(json!({"execute": "c\"d'e"})),
        ]
    );
}

#[test]
fn top_level_scalars_are_values() {
    assert_eq!(frames(&[b"1 \"x\" [1] true\n"]).len(), 4);
}

#[test]
fn garbage_costs_one_error_and_parsing_recovers() {
    for garbage in [
        &b"foo\n"[..],
        b"@@@ nonsense\n",
        b"{\"a\": \xff",
        b"{\"a\": \x01",
        b"\"unterminated\n",
        b"{]",
        b"}",
        b"{\"a\" 1}",
        b"{\"a\": \"\x80\x81\"}",
    ] {
        let got = frames(&[garbage, br#"{"x":1}"#]);
        assert_eq!(errors(&got), 1, "{garbage:?} {got:?}");
        assert_eq!(
            got.last(),
            Some(&Frame::Value(json!({"x": 1}))),
            "{garbage:?}"
        );
    }
}

#[test]
fn nesting_is_limited() {
    let mut text = vec![b'['; 10_000];
    text.extend(vec![b']'; 10_000]);
    text.extend(br#"{"x":1}"#);
    let got = frames(&[&text]);
    assert_eq!(
        got.first(),
        Some(&Frame::Error("JSON nesting depth limit exceeded".into()))
    );
    assert_eq!(got.get(1..), Some(&[Frame::Value(json!({"x": 1}))][..]));
}

#[test]
fn size_is_limited_and_memory_given_back() {
    let mut splitter = Splitter::default();
    let mut out = Vec::new();
    splitter.feed(b"{\"a\": \"", &mut out);
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        splitter.feed(&chunk, &mut out);
        assert!(splitter.buffer.capacity() <= 2 * MAX_SIZE);
    }
    assert_eq!(out, [Frame::Error("JSON token size limit exceeded".into())]);
    assert_eq!(splitter.buffer.capacity(), 0);
    splitter.feed(br#""}{"x":1}"#, &mut out);
    assert_eq!(out.last(), Some(&Frame::Value(json!({"x": 1}))));
}

#[test]
fn tokens_are_limited() {
    let most = vec!["[]"; MAX_TOKENS / 4 - 1].join(",");
    let text = format!("[{most}]{{\"x\":1}}");
    let found = frames(&[text.as_bytes()]);
    assert!(matches!(
        found.as_slice(),
        [Frame::Value(_), Frame::Value(_)]
    ));
    for list in ["[],", "1,", "{\"a\":1},", "\"\","] {
        let text = format!("[{}0]{{\"x\":1}}", list.repeat(MAX_TOKENS));
        let wanted = Frame::Error("JSON token count limit exceeded".into());
        assert_eq!(
            frames(&[text.as_bytes()]),
            [wanted, Frame::Value(json!({"x": 1}))]
        );
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same(cuts in proptest::collection::vec(0usize..200, 0..20)) {
        let text: &[u8] = b"{\"execute\":\"a\",\"id\":[1,{\"k\":\"v\\\"}\"}]}\r\n foo\n{'a':'b'}[1]\xff{\"b\":2}";
        let whole = frames(&[text]);
        let mut cuts: Vec<_> = cuts.into_iter().map(|c| c % text.len()).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&text[from..cut]);
            from = cut;
        }
        chunks.push(&text[from..]);
        prop_assert_eq!(frames(&chunks), whole);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = frames(&[&bytes]);
    }
}
