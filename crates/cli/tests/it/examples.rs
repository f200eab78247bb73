//! Serves every folder below `examples/`, and sends it requests.

use std::path::Path;

use crate::http::{Response, get, post};
use crate::support::{Server, guest};

/// For each exchange: the example, a path, the file to send, and the file that must come back.
const EXCHANGES: &[(&str, &str, &str, &str)] = &[
    ("edge", "/canny", "canny/input/camera-palette.png", "canny/expected/camera-palette.png"),
    ("edge", "/plate", "plate/input/scene-240.ppm", "plate/expected/scene-240.json"),
    ("edge", "/attitude", "attitude/input/small.csv", "attitude/expected/small.csv"),
    ("edge", "/lenet", "lenet/input/digit.pgm", "lenet/expected/digit.jsonl"),
    ("edge", "/unzip", "unzip/input/licence.zip", "unzip/expected/licence.txt"),
];

/// For each exchange: the example, a path, what to send, and what must come back.
const TEXTS: &[(&str, &str, &str, &str)] = &[
    ("languages", "/markdown", "# A\n\n*b* ~~c~~\n", "<h1>A</h1>\n<p><em>b</em> <del>c</del></p>\n"),
    (
        "languages",
        "/csv?separator=;",
        "name;count\n\"a \"\"b\"\"; c\";3\nd;x\n",
        r#"[{"name":"a \"b\"; c","count":3},{"name":"d","count":"x"}]"#,
    ),
    ("languages", "/words?top=1", "The cat, and the dog.", "[{\"word\":\"the\",\"count\":2}]\n"),
    ("languages", "/statistics", "1 2 3\n4", "count 4\nmean 2.5\nstandard deviation 1.11803\nleast 1\ngreatest 4\n"),
];

#[test]
fn every_example_answers() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in std::fs::read_dir(&examples).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let server = Server::start_folder(&examples.join(&name));
        let mut asked = 0;
        // As many times as there are engines, so that each engine is tried.
        for _ in 0..4 {
            for (_, path, input, expected) in EXCHANGES.iter().filter(|(example, ..)| *example == name) {
                let response = post(&server.address, path, &std::fs::read(guest(input)).unwrap());
                assert_eq!(response.status, 200, "{name}{path}: {}", response.text());
                assert!(response.body == std::fs::read(guest(expected)).unwrap(), "{name}{path} answers otherwise");
                asked += 1;
            }
            for (_, path, text, expected) in TEXTS.iter().filter(|(example, ..)| *example == name) {
                let response = post(&server.address, path, text.as_bytes());
                assert_eq!((response.status, response.text().as_str()), (200, *expected), "{name}{path}");
                asked += 1;
            }
        }
        if name == "cgi" {
            let Response { status, body, .. } = post(&server.address, "/any/path", b"hello");
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 200, "{body}");
            assert!(body.contains("PATH_INFO=/any/path") && body.contains("REQUEST_METHOD=POST"), "{body}");
            asked += 1;
        }
        if name == "languages" {
            // They are programs of their own, and refuse what they cannot use.
            for (path, text) in [("/csv", "a,b\n1\n"), ("/words?top=none", "text"), ("/statistics", "1 two")] {
                assert_eq!(post(&server.address, path, text.as_bytes()).status, 400, "{path}");
            }
            assert_eq!(get(&server.address, "/markdown").status, 405);
        }
        assert!(asked > 0, "no test asks examples/{name}");
    }
}
