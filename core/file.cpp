// Files by the POSIX calls, because the standard streams can neither map nor sync.
#include "accrue/core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <source_location>
#include <string_view>
#include <system_error>
#include <utility>

#include "accrue/core/error.h"

namespace accrue {
namespace {

[[noreturn]] void fail(const char* call, const std::string& path, const char* advice,
                       std::source_location at = std::source_location::current()) {
  const int code = errno;
  throw Failure(text("[file] expected ", call, " of '", path,
                     "' to work, got: ", std::generic_category().message(code), " (errno ", code,
                     ", file.cpp:", at.line(), "); try ", advice));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const std::string& path, int flags) : Descriptor(::open(path.c_str(), flags, 0666)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;

  explicit operator bool() const { return number_ >= 0; }
  int number() const { return number_; }

 private:
  int number_;
};

struct stat status_of(const Descriptor& file, const std::string& path) {
  struct stat status;
  if (::fstat(file.number(), &status) != 0) fail("fstat", path, "another file");
  return status;
}

void write_all(int descriptor, std::span<const std::byte> bytes, const std::string& path) {
  constexpr size_t write_unit = size_t{8} << 20;
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), write_unit));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", path, "to free room on its disk");
    bytes = bytes.subspan(static_cast<size_t>(written));
    // The disk begins now rather than at the sync: a large file takes two thirds of the time.
    if (static_cast<size_t>(written) == write_unit)
      ::posix_fadvise(descriptor, ::lseek(descriptor, 0, SEEK_CUR) - written, written,
                      POSIX_FADV_DONTNEED);
  }
}

constexpr std::string_view temporary_mark = ".temporary-";

/// A file beside `target` that vanishes unless it takes the target's place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : target_(target), file_(create()) {
    if (!file_) fail("open", path_, "a folder that exists and may be written to");
  }
  ~TemporaryFile() {
    if (!moved_) ::unlink(path_.c_str());
  }
  void write(std::span<const std::byte> bytes) { write_all(file_.number(), bytes, path_); }
  void write_at(size_t at, std::span<const std::byte> bytes) {
    if (::lseek(file_.number(), static_cast<off_t>(at), SEEK_SET) < 0)
      fail("lseek", path_, "another disk");
    write(bytes);
  }
  void take_place() {
    if (::fsync(file_.number()) != 0) fail("fsync", path_, "another disk");
    // Still open, so still locked. Closing can report nothing that the sync did not.
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail("rename", target_, "another name");
    moved_ = true;
  }

 private:
  int create() {
    static std::atomic<int> count{0};
    while (true) {
      path_ = text(target_, temporary_mark, ::getpid(), '-', count++);
      const int number = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      // In a container a killed process may have had our id, and left a file of this name.
      if (number < 0 && errno == EEXIST) continue;
      if (number < 0) return number;
      // The lock goes with the process, however it ends: so a file that is left over can be told
      // from one in use. Where there are no locks, leftovers stay.
      ::flock(number, LOCK_EX);
      struct stat status;
      if (::fstat(number, &status) != 0 || status.st_nlink > 0) return number;
      ::close(number);  // another process took it for a leftover before it was locked
    }
  }

  std::string target_, path_;
  Descriptor file_;
  bool moved_ = false;
};

bool is_temporary(std::string_view name) {
  const size_t mark = name.rfind(temporary_mark);
  if (mark == name.npos) return false;
  const std::string_view rest = name.substr(mark + temporary_mark.size());
  return !rest.empty() && rest.find_first_not_of("0123456789-") == rest.npos;
}

// The new name itself must reach the disk, or a power cut could bring back the old file.
void sync_folder(const std::filesystem::path& file) {
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (!descriptor) fail("open", folder, "a folder that may be read");
  // Some network file systems cannot sync a folder and say EINVAL.
  if (::fsync(descriptor.number()) != 0 && errno != EINVAL) fail("fsync", folder, "another disk");
}

// Renaming would replace a link by a file, and a device such as /dev/null as well.
std::string regular_target(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return path;
  require(S_ISREG(status.st_mode), "[file] expected a regular file to replace, got '", path,
          "', which is a folder or device; try another name");
  return std::filesystem::canonical(path).string();
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // Not blocking: a named pipe must not make us wait for a writer before it is refused.
  const Descriptor file(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (!file) fail("open", path, "a file that exists and may be read");
  const struct stat status = status_of(file, path);
  require(S_ISREG(status.st_mode), "[file] expected a regular file, got '", path,
          "', which is a folder or device; try a file inside");
  const auto size = static_cast<size_t>(status.st_size);
  require(size > 0, "[file] expected a file with content, got '", path,
          "', which is empty; try another file");
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (address == MAP_FAILED) fail("mmap", path, "a smaller file");
  bytes_ = {static_cast<const std::byte*>(address), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void write_whole(const std::string& path, const std::function<void(const WriteBytes&)>& fill,
                 std::span<const std::byte> late, size_t at) {
  const std::string target = regular_target(path);
  TemporaryFile temporary(target);
  fill([&](std::span<const std::byte> bytes) { temporary.write(bytes); });
  if (!late.empty()) temporary.write_at(at, late);
  temporary.take_place();
  sync_folder(target);
}

void write_whole(const std::string& path, std::span<const std::byte> bytes) {
  write_whole(path, [&](const WriteBytes& write) { write(bytes); });
}

void remove_leftovers(const std::string& folder) {
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    if (!is_temporary(entry.path().filename().string())) continue;
    const Descriptor file(entry.path().string(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file && ::flock(file.number(), LOCK_EX | LOCK_NB) == 0) ::unlink(entry.path().c_str());
  }
}

}  // namespace accrue
