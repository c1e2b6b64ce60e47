//! Sends QMP commands from the shell: `qvm-qmp SOCKET COMMAND [key=value...|JSON]`, or lines of
//! the same form on standard input. Prints answers and events.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use api_spec::Value;
use qmp::client::{Client, ClientError};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((socket, words)) = args.split_first() else {
        eprintln!("Usage: qvm-qmp SOCKET [COMMAND [key=value...|JSON]]");
        return ExitCode::from(2);
    };
    let mut client = match Client::connect(socket) {
        Ok(client) => client,
        Err(e) => {
            eprintln!("qvm-qmp: {socket}: {e}");
            return ExitCode::FAILURE;
        }
    };
    if words.is_empty() {
        interact(&mut client)
    } else {
        run(&mut client, words)
    }
}

fn interact(client: &mut Client) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<String> = match line.split_once(' ') {
            Some((name, json)) if json.trim_start().starts_with('{') => {
                vec![name.into(), json.into()]
            }
            _ => line.split_whitespace().map(str::to_string).collect(),
        };
        if !words.is_empty() {
            status = run(client, &words);
        }
    }
    status
}

fn run(client: &mut Client, words: &[String]) -> ExitCode {
    let Some((name, rest)) = words.split_first() else {
        return ExitCode::SUCCESS;
    };
    let result = arguments(rest).and_then(|arguments| client.execute(name, arguments));
    while let Ok(event) = client.event(Duration::ZERO) {
        println!("{event}");
    }
    match result {
        Ok(value) => {
            println!(
                "{}",
                serde_json::to_string_pretty(&value).unwrap_or_default()
            );
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// `key=value` words; a value that is JSON is taken as such, `a.b=` goes into an object.
fn arguments(words: &[String]) -> Result<Option<Value>, ClientError> {
    let bad = |word: &str| ClientError::Protocol(format!("'{word}' is no key=value"));
    match words {
        [] => return Ok(None),
        [json] if json.trim_start().starts_with('{') => {
            return serde_json::from_str(json).map(Some).map_err(|_| bad(json));
        }
        _ => {}
    }
    let mut root = Value::Object(api_spec::Object::new());
    for word in words {
        let (key, text) = word.split_once('=').ok_or_else(|| bad(word))?;
        let mut place = &mut root;
        for step in key.split('.') {
            if !place.is_object() {
                *place = Value::Object(api_spec::Object::new());
            }
            place = &mut place[step];
        }
        *place = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    }
    Ok(Some(root))
}
