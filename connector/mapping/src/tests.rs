use proptest::prelude::*;

use super::*;

const ABOUT: &str = r#"["dev",null,{"unit":"C"},1700000000000]"#;
/// As much as a message of the hub.
const MOST: usize = 256 << 10;

fn run(program: &str, body: &str) -> Result<String, String> {
    let filter = Filter::compile(program).map_err(|error| error.to_string())?;
    let made = filter.run(ABOUT.as_bytes(), body.as_bytes(), MOST);
    made.map(|bytes| String::from_utf8(bytes).unwrap())
        .map_err(|fault| fault.to_string())
}

#[test]
fn nested_bodies_become_flat() {
    let body = r#"{"m":{"temps":[{"n":"a","v":1.50},{"n":"b","v":2}],"id":12345678901234567890},"b":"aGk="}"#;
    let cases = [
        (".m.temps | map({(.n): .v}) | add", r#"{"a":1.50,"b":2}"#),
        ("{id: .m.id}", r#"{"id":12345678901234567890}"#),
        (
            "{d: $device, m: $module, u: $properties.unit, t: $enqueued}",
            r#"{"d":"dev","m":null,"u":"C","t":1700000000000}"#,
        ),
        ("{t: (.b | @base64d)}", r#"{"t":"hi"}"#),
        ("{t: ($device | @base64)}", r#"{"t":"ZGV2"}"#),
        (
            "{x: (9 | sqrt), y: pow(2; 3), z: fmod(7; 4)}",
            r#"{"x":3.0,"y":8.0,"z":3.0}"#,
        ),
        ("{x: (\"a-b\" | split(\"-\") | .[1])}", r#"{"x":"b"}"#),
        (
            "def c($f): (.v - 32) / $f; .m.temps[0] | {c: c(1.5)}",
            "{\"c\":-20.333333333333332}",
        ),
        // jq's own comments.
        (
            "# of the machine\n{id: .m.id}",
            r#"{"id":12345678901234567890}"#,
        ),
        ("with_entries(select(.key == \"b\"))", r#"{"b":"aGk="}"#),
        (".no.such.key // {}", "{}"),
    ];
    for (program, expected) in cases {
        assert_eq!(run(program, body).as_deref(), Ok(expected), "{program}");
    }
}

#[test]
fn several_outputs_and_arrays_make_one_array() {
    let cases = [
        ("empty", ""),
        (".[] | {v: .}", r#"[{"v":1},{"v":2}]"#),
        ("[.[] | {v: .}]", r#"[{"v":1},{"v":2}]"#),
        ("[{v: 0}], {v: 1}", r#"[{"v":0},{"v":1}]"#),
        ("[[{v: 0}]]", r#"[[{"v":0}]]"#),
        ("[], []", "[]"),
        ("[]", "[]"),
        ("[], {v: 1}", r#"[{"v":1}]"#),
        ("{v: 1}, []", r#"[{"v":1}]"#),
        ("1", "1"),
        ("1, 2", "[1,2]"),
        ("\"x\"", "\"x\""),
    ];
    for (program, expected) in cases {
        assert_eq!(run(program, "[1,2]").as_deref(), Ok(expected), "{program}");
    }
}

#[test]
fn errors_are_told_in_one_short_line() {
    let long = format!("\"{}\\n\"", "ä".repeat(5000));
    let cases = [
        (".a.b.c", "{\"a\":1}", "cannot index 1 with \"b\""),
        ("error(\"no\\nsuch\\u0007thing\")", "1", "no such thing"),
        ("error", &long, "ä…"),
        (". + 1", &long, "…"),
        ("{v: .} | repeat(.)", "1", "more than 262144 bytes"),
        (".[0:100000] | repeat(.; 1)", "1", "no filter repeat/2"),
        ("break $x", "1", "no label $x"),
        (".", "{\"a\":", "not read"),
        (".", "{} {}", "not read"),
    ];
    for (program, body, expected) in cases {
        let told = run(program, body).unwrap_err();
        assert!(told.contains(expected), "{program}: {told}");
        assert!(told.chars().count() <= MAX_TOLD + 30, "{program}: {told}");
        assert!(!told.contains(char::is_control), "{program}: {told:?}");
    }
}

#[test]
fn a_bad_program_is_refused_with_its_place() {
    let long = ".".repeat(MAX_PROGRAM + 1);
    let cases = [
        ("", "is empty"),
        (" \n", "is empty"),
        (long.as_str(), "has 8193 bytes; at most 8192"),
        (
            "{a: .b",
            "line 1, column 7: closing brace is missing at the end",
        ),
        (
            ".a |\n  {b: }",
            "line 2, column 7: term is missing before \"}\"",
        ),
        (
            ".a |\n  frobnicate(1)",
            "line 2, column 3: no filter frobnicate/1",
        ),
        ("{a: $nothing}", "line 1, column 5: no variable $nothing"),
        (
            "\"ü\" | §",
            "line 1, column 7: token is missing before \"§\"",
        ),
        ("if . then 1 else 2", "is missing at the end"),
        (
            "import \"a\" as a; .",
            "column 9: module loading not supported",
        ),
        (
            "import \"a\" as $a; $a",
            "column 9: files cannot be imported",
        ),
        (
            "include \"a\"; .",
            "column 10: module loading not supported",
        ),
    ];
    for (program, expected) in cases {
        let told = check(program).unwrap_err().to_string();
        assert!(told.contains(expected), "{program}: {told}");
        assert_eq!(told.lines().count(), 1);
    }
}

/// The pod's environment names its secrets.
#[test]
fn nothing_of_the_world_is_in_reach() {
    for program in [
        "env",
        "$ENV",
        "$ENV.PATH",
        "now",
        "input",
        "inputs",
        "input_filename",
        "debug",
        "stderr",
        "halt",
        "halt_error",
        "$__prog_args",
        "get_search_list",
        "input_line_number",
        "getpath([\"env\"]) | env",
    ] {
        assert!(check(program).is_err(), "{program}");
    }
}

/// Each grows with the program; none may take the process with it.
#[test]
fn the_deepest_and_widest_programs_end_in_time() {
    // Unoptimised code needs several times the stack.
    let length = if cfg!(debug_assertions) {
        MAX_PROGRAM / 4
    } else {
        MAX_PROGRAM
    };
    let repeat = |before: &str, after: &str| {
        let times = length / (before.len() + after.len());
        format!("{}1{}", before.repeat(times), after.repeat(times))
            .chars()
            .take(length)
            .collect::<String>()
    };
    for (before, after) in [
        ("(", ")"),
        ("(", ""),
        ("[", "]"),
        ("{a:", "}"),
        ("-", ""),
        ("1,", ""),
        ("1+", ""),
        ("1 as $x|", ""),
        ("if ", " then 1 end"),
        ("\"\\(", ")\""),
        ("map(", ")"),
        (".[", "]"),
        ("def f:", ";1"),
        ("try ", ""),
        ("reduce ", " as $x(1;1)"),
        ("def f:f,", ";f"),
        ("label $a|", ""),
        (".a|=", ""),
    ] {
        let _ = check(&repeat(before, after));
    }
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(
        program in "([a-z]{1,3}|[\\[\\](){}|,.;:$@\"\\\\?/+<>=*-]|def f: |if | then | end|reduce | as |import |label |\\. ){0,20}",
    ) {
        let _ = check(&program);
    }

    #[test]
    fn any_body_is_mapped_or_refused(body in ".{0,60}|[\\[\\]{}:,\"0-9a-z.e+-]{0,40}") {
        let _ = run("{v: .}", &body);
    }
}
