//! Disks that fail: one on command, through a library between the broker and the kernel, and a small one that is really full.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory in target/tmp that no other test has.
fn fresh_directory(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let place = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{place}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory in target/tmp");
    directory
}

/// A disk that fails on command.
#[derive(Debug)]
pub struct FaultyDisk {
    directory: PathBuf,
}

/// What fails, as `shim.c` reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub write: i32,
    pub sync: i32,
    pub create: i32,
    pub sync_ms: i32,
    pub is_partial: bool,
}

impl FaultyDisk {
    /// A disk on which nothing fails yet; none where there is no C compiler.
    pub fn new() -> Option<FaultyDisk> {
        let disk = FaultyDisk { directory: fresh_directory("faults") };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(disk.library()).arg(source).status();
        match compiled {
            Ok(status) => assert!(status.success(), "shim.c compiles"),
            Err(_) => {
                fs::remove_dir_all(&disk.directory).expect("the directory can be removed");
                return None;
            }
        }
        disk.set(Faults::default());
        Some(disk)
    }

    /// From now on this fails.
    pub fn set(&self, faults: Faults) {
        let Faults { write, sync, create, sync_ms, is_partial } = faults;
        let text = format!("{write} {sync} {create} {sync_ms} {}\n", u8::from(is_partial));
        // Whoever reads it gets one or the other.
        let fresh = self.directory.join("faults.new");
        fs::write(&fresh, text).and_then(|()| fs::rename(fresh, self.control())).expect("the control file is written");
    }

    /// Where the broker keeps its data.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the broker has to find in its environment.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("LD_PRELOAD", text(self.library())),
            ("RINGMQ_FAULTS", text(self.control())),
            ("RINGMQ_FAULTS_BELOW", text(self.data())),
        ]
    }

    fn library(&self) -> PathBuf {
        self.directory.join("shim.so")
    }

    fn control(&self) -> PathBuf {
        self.directory.join("faults")
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.directory).expect("the directory can be removed");
        }
    }
}

/// A small file system in memory.
#[derive(Debug)]
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// One of `mebibytes`; none where nothing may be mounted.
    pub fn new(mebibytes: u32) -> Option<SmallDisk> {
        let directory = fresh_directory("small");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(&directory);
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(SmallDisk { directory });
        }
        fs::remove_dir(&directory).expect("the directory can be removed");
        None
    }

    /// Where the broker keeps its data.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Fills it up to the last byte.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file");
        let mut chunk = vec![7; 1 << 20];
        while !chunk.is_empty() {
            if file.write(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
    }

    /// Takes away so much room.
    pub fn take(&self, mebibytes: usize) {
        fs::write(self.ballast(), vec![7; mebibytes << 20]).expect("there is so much room");
    }

    /// Gives back the room that [`SmallDisk::fill`] or [`SmallDisk::take`] took.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.directory).status();
        let removed = fs::remove_dir(&self.directory);
        if !std::thread::panicking() {
            assert!(unmounted.is_ok_and(|status| status.success()) && removed.is_ok(), "it can be unmounted");
        }
    }
}
