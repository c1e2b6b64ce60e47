//! qvm-qmp: QMP from the shell. Runs one command, or those that are typed, line by line.

mod words;

use std::io::{BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use api_spec::Value;
use qmp::client::{Client, ClientError, Ready};

const USAGE: &str = "\
Usage: qvm-qmp [-c] [-w EVENT] SOCKET [COMMAND [key=value...|JSON]]

SOCKET is a path or HOST:PORT. Without COMMAND, commands of the same form are read from standard
input, and events are shown as they come; 'help [WORD]' lists commands. A value that is JSON is taken
as such, any other is a string; a.b=1 stands for {\"a\": {\"b\": 1}}.

  -c        answers in one line each
  -w EVENT  after all commands, wait for that event
";

/// What was asked for on the command line.
#[derive(Debug, Default)]
struct Options {
    compact: bool,
    wait: Option<String>,
    socket: String,
    words: Vec<String>,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut session = match Client::connect(&options.socket) {
        Ok(client) => Session {
            client,
            compact: options.compact,
            awaited: options.wait,
            came: false,
        },
        Err(error) => return complain(&format!("{}: {error}", options.socket)),
    };
    let result = match options.words.as_slice() {
        [] => session.interact(),
        words => session.run(words),
    };
    let result = match result {
        Ok(true) => session.wait(),
        other => other,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(text: &str) -> ExitCode {
    eprintln!("qvm-qmp: {text}");
    ExitCode::FAILURE
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options::default();
    loop {
        match args.next()?.as_str() {
            "-c" => options.compact = true,
            "-w" => options.wait = Some(args.next()?),
            flag if flag.starts_with('-') => return None,
            socket => {
                options.socket = socket.into();
                options.words = args.collect();
                return Some(options);
            }
        }
    }
}

struct Session {
    client: Client,
    compact: bool,
    /// The event to wait for, and whether it came already.
    awaited: Option<String>,
    came: bool,
}

/// Whether all went well; an error when the connection is lost.
type Outcome = Result<bool, ClientError>;

impl Session {
    /// Runs one command, and shows the answer and the events that came before it.
    fn run(&mut self, words: &[String]) -> Outcome {
        let Some((name, rest)) = words.split_first() else {
            return Ok(true);
        };
        let arguments = match words::arguments(rest) {
            Ok(arguments) => arguments,
            Err(text) => return Ok(refused(&text)),
        };
        let result = self.client.execute(name, arguments);
        for event in self.client.take_events() {
            self.show_event(&event)?;
        }
        match result {
            Ok(value) => self.show(&value).map(|()| true),
            Err(ClientError::Refused(class, desc)) => Ok(refused(&format!("{class}: {desc}"))),
            Err(error) => Err(error),
        }
    }

    /// Runs what is typed until its end; the last command decides on the outcome.
    fn interact(&mut self) -> Outcome {
        let mut stdin = std::io::stdin().lock();
        let prompt = stdin.is_terminal();
        let (mut typed, mut outcome, mut over) = (Vec::new(), true, false);
        while !over {
            if prompt {
                print!("(qmp) ");
                std::io::stdout().flush()?;
            }
            // What the standard library has buffered poll does not see: all of it is taken at once.
            while !typed.contains(&b'\n') && !over {
                match self.client.wait_with(std::io::stdin().as_fd())? {
                    Ready::Message => {
                        let event = self.client.event(Duration::from_secs(1))?;
                        self.show_event(&event)?;
                    }
                    Ready::Other => {
                        let data = stdin.fill_buf()?;
                        let count = data.len();
                        typed.extend_from_slice(data);
                        stdin.consume(count);
                        over = count == 0;
                    }
                }
            }
            for line in lines(&mut typed, over) {
                outcome = self.line(&line)?;
            }
        }
        Ok(outcome)
    }

    fn line(&mut self, line: &str) -> Outcome {
        match words::split(line) {
            Ok(words) => match words.as_slice() {
                [help, rest @ ..] if help == "help" => self.help(rest),
                words => self.run(words),
            },
            Err(text) => Ok(refused(&text)),
        }
    }

    fn help(&mut self, words: &[String]) -> Outcome {
        let commands = self.client.execute("query-commands", None)?;
        let part = words.first().map_or("", String::as_str);
        let names = commands.as_array().into_iter().flatten();
        let names = names.filter_map(|entry| entry.get("name").and_then(Value::as_str));
        let mut names: Vec<&str> = names.filter(|name| name.contains(part)).collect();
        names.sort_unstable();
        for name in names {
            show(name)?;
        }
        Ok(true)
    }

    /// Shows events until the awaited one; the end of the connection is no success.
    fn wait(&mut self) -> Outcome {
        while self.awaited.is_some() && !self.came {
            match self.client.event(Duration::from_secs(3600)) {
                Ok(event) => self.show_event(&event)?,
                Err(ClientError::Io(e)) if e.kind() == std::io::ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn show_event(&mut self, event: &Value) -> Result<(), ClientError> {
        self.came |= event.get("event").and_then(Value::as_str) == self.awaited.as_deref();
        show(&event.to_string())
    }

    fn show(&self, value: &Value) -> Result<(), ClientError> {
        match serde_json::to_string_pretty(value) {
            Ok(text) if !self.compact => show(&text),
            _ => show(&value.to_string()),
        }
    }
}

/// Takes the whole lines out of what was typed, and what is left of it at its end.
fn lines(typed: &mut Vec<u8>, over: bool) -> Vec<String> {
    let end = match typed.iter().rposition(|byte| *byte == b'\n') {
        _ if over => typed.len(),
        Some(last) => last + 1,
        None => 0,
    };
    let whole: Vec<u8> = typed.drain(..end).collect();
    let text = String::from_utf8_lossy(&whole);
    text.lines().map(str::to_owned).collect()
}

/// Not `println!`, which panics when the reader has gone.
fn show(text: &str) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

fn refused(text: &str) -> bool {
    eprintln!("{text}");
    false
}
