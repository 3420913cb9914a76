//! The power of the file system that the data are on.
//!
//! Owns: a program that cuts it and gives it back, one line of its standard input at a time, each of which it answers. A
//! program, because to shut a file system down takes what safe Rust does not offer; one that runs all the while, because the
//! moment counts.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A switch, and the program that turns it.
#[derive(Debug)]
pub struct PowerSwitch {
    program: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PowerSwitch {
    /// Starts `program`, whose arguments follow it, separated by spaces.
    pub fn new(program: &str) -> PowerSwitch {
        let mut words = program.split(' ');
        let mut command = Command::new(words.next().expect("a program"));
        let mut program = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        let input = program.stdin.take().expect("piped");
        let output = BufReader::new(program.stdout.take().expect("piped"));
        PowerSwitch { program, input, output }
    }

    /// Nothing that is not on the disk gets there any more.
    pub fn off(&mut self) {
        self.turn("off");
    }

    /// The file system is there again, on a machine that has been started anew.
    pub fn on(&mut self) {
        self.turn("on");
    }

    fn turn(&mut self, to: &str) {
        writeln!(self.input, "{to}").expect("the program that switches the power runs");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the program that switches the power answers");
        assert!(answer.trim() == to, "the power was not switched {to}: {answer:?}");
    }
}

impl Drop for PowerSwitch {
    fn drop(&mut self) {
        // It fails only if it is gone already, and that is all that is wanted here.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
