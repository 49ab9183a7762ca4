//! Long steps that a person waits for: a spinner with the last line of output on a terminal, plain lines elsewhere, and
//! the whole output in a log that is quoted when the step fails. Everything here goes to stderr.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How much of a failed step's output is quoted.
const TAIL_LINES: usize = 30;

/// Without a terminal, a running step says that it is alive this often.
const ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Runs `command` as one step called `title`, a gerund phrase, with its output in `log`. Returns the output.
pub(crate) fn step(title: &str, log: &Path, command: &mut Command) -> Result<String> {
    let (output, succeeded) = try_step(title, log, command)?;
    if !succeeded {
        eprintln!("{}", tail(&output, TAIL_LINES));
        bail!("{title} failed: its last lines are above, all of them in {}", log.display());
    }
    Ok(output)
}

/// Like [`step`], for a caller that explains a failure itself.
pub(crate) fn try_step(title: &str, log: &Path, command: &mut Command) -> Result<(String, bool)> {
    let mut file = create_log(log)?;
    let (reader, writer) = io::pipe().context("making a pipe")?;
    let writer_too = writer.try_clone().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(writer_too);
    let mut child = command.spawn().with_context(|| format!("{title}: starting {:?}", command.get_program()))?;
    // The command keeps its ends of the pipe open, and the loop below would never see the end of it.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut display = Display::start(title);
    let mut output = String::new();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).with_context(|| title.to_owned())? > 0 {
        file.write_all(&line).with_context(|| format!("writing {}", log.display()))?;
        let text = String::from_utf8_lossy(&line);
        display.update(text.trim());
        output.push_str(&text);
        line.clear();
    }
    let status = child.wait().with_context(|| title.to_owned())?;
    display.finish(status.success());
    Ok((output, status.success()))
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn create_log(path: &Path) -> Result<File> {
    let doing = || format!("creating {}", path.display());
    fs::create_dir_all(path.parent().with_context(doing)?).with_context(doing)?;
    File::create(path).with_context(doing)
}

/// What is on the screen while a step runs.
struct Display {
    title: String,
    started: Instant,
    spoke: Instant,
    spinner: Option<ProgressBar>,
}

impl Display {
    fn start(title: &str) -> Self {
        let spinner = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg:.dim}");
            let spinner = ProgressBar::new_spinner();
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.set_prefix(title.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        if spinner.is_none() {
            eprintln!("{title} …");
        }
        let now = Instant::now();
        Self { title: title.to_owned(), started: now, spoke: now, spinner }
    }

    fn update(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(line.to_owned());
        } else if self.spoke.elapsed() >= ALIVE_INTERVAL {
            self.spoke = Instant::now();
            eprintln!("  {} s: {line}", self.started.elapsed().as_secs());
        }
    }

    fn finish(self, succeeded: bool) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let outcome = if succeeded { "done" } else { "failed" };
        eprintln!("{}: {outcome} in {:.1} s", self.title, self.started.elapsed().as_secs_f64());
    }
}
