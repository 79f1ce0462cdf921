//! Letters of a single process, in a local file. It never grows beyond a bound: a full one is kept as
//! `<path>.1`, in the place of the one before.

use std::{
    fs::{File, OpenOptions, rename},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_config::{MemberReport, ReportClass};
use tokio::{task::JoinHandle, time::timeout};

use super::Shelf;
use crate::report::Trouble;

/// Size of a file: some hundred thousand small letters, and any editor still opens it.
const FULL: u64 = 64 << 20;
/// A disk takes a mebibyte in milliseconds; one that takes longer than this is in trouble.
const CALL: Duration = Duration::from_secs(3);

/// A file for letters.
pub struct FileShelf {
    path: PathBuf,
    /// A write that did not end in time. The next one must not meet it.
    late: Option<JoinHandle<io::Result<()>>>,
    full: u64,
}

impl FileShelf {
    /// The file at `path`, which is made if there is none.
    ///
    /// # Errors
    /// If it cannot be opened to be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        open(path)?;
        Ok(Self {
            path: path.to_owned(),
            late: None,
            full: FULL,
        })
    }

    fn trouble(&self, what: &str) -> Trouble {
        let message = format!(
            "iotHub.deadLetter.file.path {}: {what}; make room on the disk, or correct path or rights",
            self.path.display()
        );
        Trouble::new(ReportClass::User, MemberReport::DEAD_LETTER, message)
    }

    /// Waits for a write for a while.
    async fn within(&mut self, mut write: JoinHandle<io::Result<()>>) -> Result<(), Trouble> {
        match timeout(CALL, &mut write).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(self.trouble(&error.to_string())),
            // It panicked, or the process ends.
            Ok(Err(error)) => Err(self.trouble(&error.to_string())),
            Err(_) => {
                self.late = Some(write);
                Err(self.trouble("the disk has not answered in time"))
            }
        }
    }
}

/// A new file is for nobody else: it holds what devices say.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path)
}

/// Appends letters to the file and waits until the disk has them; begins a new file before it is `full`.
fn append(path: &Path, letters: &[u8], full: u64) -> io::Result<()> {
    let mut file = open(path)?;
    let mut before = file.metadata()?.len();
    if before > 0 && before + letters.len() as u64 > full {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        rename(path, older)?;
        file = open(path)?;
        before = 0;
    }
    let written = end_line(&mut file, before)
        .and_then(|()| file.write_all(letters))
        .and_then(|()| file.sync_data())
        .and_then(|()| if before == 0 { keep(path) } else { Ok(()) });
    if written.is_err() {
        // Half a letter would spoil the next one as well.
        let _ = file.set_len(before);
    }
    written
}

/// Waits until the disk has the name of a new file.
fn keep(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Ends a line that a crash has left half written.
fn end_line(file: &mut File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    file.write_all(b"\n")
}

#[async_trait]
impl Shelf for FileShelf {
    async fn prove(&mut self) -> Result<bool, Trouble> {
        Ok(false)
    }

    async fn put(&mut self, letters: Bytes) -> Result<(), Trouble> {
        if let Some(late) = self.late.take() {
            // Its letters are here again, whether it has written them or not.
            let _ = self.within(late).await;
            if self.late.is_some() {
                return Err(self.trouble("the disk has not answered in time"));
            }
        }
        let (path, full) = (self.path.clone(), self.full);
        let write = tokio::task::spawn_blocking(move || append(&path, &letters, full));
        self.within(write).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of the test's own, gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("letters-{:016x}", rand::random::<u64>());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn put(shelf: &mut FileShelf, line: &'static str) -> Result<(), Trouble> {
        shelf.put(Bytes::from_static(line.as_bytes())).await
    }

    #[tokio::test]
    async fn letters_are_appended_and_half_a_line_spoils_no_other() {
        let folder = Folder::new();
        let path = folder.0.join("letters");
        let mut shelf = FileShelf::open(&path).unwrap();
        put(&mut shelf, "1\n").await.unwrap();
        put(&mut shelf, "2\n").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
        // As a crash leaves it.
        fs::write(&path, "1\nhal").unwrap();
        let mut shelf = FileShelf::open(&path).unwrap();
        put(&mut shelf, "3\n").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\nhal\n3\n");
        // As somebody leaves it who has taken the letters away.
        fs::remove_file(&path).unwrap();
        put(&mut shelf, "4\n").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4\n");
    }

    #[tokio::test]
    async fn a_full_file_is_kept_once() {
        let folder = Folder::new();
        let path = folder.0.join("letters");
        let mut shelf = FileShelf::open(&path).unwrap();
        shelf.full = 5;
        for line in ["11\n", "2\n", "33\n", "4\n", "5555\n", "6\n"] {
            put(&mut shelf, line).await.unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "6\n");
        let older = fs::read_to_string(folder.0.join("letters.1")).unwrap();
        assert_eq!(older, "5555\n");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told_with_the_remedy() {
        let folder = Folder::new();
        assert!(FileShelf::open(&folder.0).is_err(), "a folder is no file");
        let path = folder.0.join("gone").join("letters");
        assert!(FileShelf::open(&path).is_err());
        fs::create_dir(folder.0.join("gone")).unwrap();
        let mut shelf = FileShelf::open(&path).unwrap();
        fs::remove_dir_all(folder.0.join("gone")).unwrap();
        let trouble = put(&mut shelf, "1\n").await.unwrap_err();
        assert_eq!(trouble.reason, "DeadLetterUnwritable");
        assert!(trouble.message.contains("make room"), "{trouble:?}");
        fs::create_dir(folder.0.join("gone")).unwrap();
        put(&mut shelf, "1\n").await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }
}
