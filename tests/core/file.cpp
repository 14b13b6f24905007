// Mapped files, and files written whole or not at all.
#include "accrue/core/file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "accrue/core/error.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("a mapped file has the file's bytes, also after it is moved") {
  const TemporaryFolder folder;
  MappedFile first(folder.write("a", std::string("x\0y", 3)));
  CHECK(text_of(first.bytes()) == std::string("x\0y", 3));
  MappedFile second = std::move(first);
  CHECK(text_of(second.bytes()) == std::string("x\0y", 3));
  second = MappedFile(folder.write("b", "other"));
  CHECK(text_of(second.bytes()) == "other");
  CHECK(second.path() == folder.file("b"));
}

TEST_CASE("files that cannot be mapped are refused by name and reason") {
  const TemporaryFolder folder;
  const std::string missing = folder.file("missing");
  const std::string reason = message_of<Failure>([&] { MappedFile file(missing); });
  CHECK(contains(reason, missing));
  CHECK(contains(reason, "open"));
  CHECK(contains(reason, "No such file or directory (errno 2"));

  const std::string empty = folder.write("empty", "");
  const std::string is_empty = message_of<BadArgument>([&] { MappedFile file(empty); });
  CHECK(contains(is_empty, empty));
  CHECK(contains(is_empty, "empty"));

  CHECK_THROWS_AS(MappedFile(folder.path().string()), BadArgument);
  REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  CHECK_THROWS_AS(MappedFile(folder.file("pipe")), BadArgument);  // and does not wait for a writer
}

TEST_CASE("a file written whole has all parts in order and leaves nothing else behind") {
  const TemporaryFolder folder;
  folder.write("a", "a longer text that was there before");
  write_whole(folder.file("a"), [](const WriteBytes& write) {
    write(bytes_of("one "));
    write({});
    write(bytes_of("two"));
  });
  CHECK(folder.read("a") == "one two");
  write_whole(folder.file("b"), bytes_of(""));
  CHECK(folder.read("b").empty());
  CHECK(folder.files() == 2);
}

TEST_CASE("bytes that depend on all others take their place last") {
  const TemporaryFolder folder;
  std::string sum = "00";
  const auto fill = [&](const WriteBytes& write) {
    write(bytes_of("sum 00 of "));
    write(bytes_of("twelve"));
    sum = "12";
  };
  write_whole(folder.file("a"), fill, bytes_of(sum), 4);
  CHECK(folder.read("a") == "sum 12 of twelve");
}

TEST_CASE("an exception while writing leaves the file that was there, and no other") {
  const TemporaryFolder folder;
  folder.write("a", "before");
  const auto broken = [](const WriteBytes& write) {
    write(bytes_of("half of it"));
    throw BadOrder("in the middle");
  };
  CHECK_THROWS_AS(write_whole(folder.file("a"), broken), BadOrder);
  CHECK(folder.read("a") == "before");
  CHECK_THROWS_AS(write_whole(folder.file("b"), broken), BadOrder);
  CHECK(folder.files() == 1);
}

TEST_CASE("a disk that takes no more leaves the file that was there, and names the call") {
  const TemporaryFolder folder;
  folder.write("a", "before");
  // The system's limit on a file's size stands for the full disk; its signal would end the program.
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1 << 16, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string large(1 << 20, 'x');
  const std::string reason =
      message_of<Failure>([&] { write_whole(folder.file("a"), bytes_of(large)); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(contains(reason, "expected write of"));
  CHECK(contains(reason, "File too large"));
  CHECK(folder.read("a") == "before");
  CHECK(folder.files() == 1);
}

TEST_CASE("only regular files are replaced, and links keep pointing to them") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(write_whole("/dev/null", bytes_of("x")), BadArgument);
  CHECK_THROWS_AS(write_whole(folder.path().string(), bytes_of("x")), BadArgument);
  CHECK(contains(message_of<Failure>([&] { write_whole(folder.file("none/a"), bytes_of("x")); }),
                 "open"));
  folder.write("target", "before");
  std::filesystem::create_symlink("target", folder.file("link"));
  write_whole(folder.file("link"), bytes_of("after"));
  CHECK(std::filesystem::is_symlink(folder.file("link")));
  CHECK(folder.read("target") == "after");
}

TEST_CASE("leftovers of killed processes are removed; those in use, and other files, stay") {
  const TemporaryFolder folder;
  folder.write("a.temporary-12-0", "half");
  folder.write("a.temporary-", "named so by somebody");
  folder.write("a.temporary-12-x", "named so by somebody");
  write_whole(folder.file("a"), [&](const WriteBytes& write) {
    write(bytes_of("whole"));
    CHECK(folder.files() == 4);
    remove_leftovers(folder.path().string());
    CHECK(folder.files() == 3);
  });
  CHECK(folder.read("a") == "whole");
  CHECK(folder.files() == 3);
  remove_leftovers(folder.file("none"));
}

TEST_CASE("a leftover of our own process id is not in the way") {
  const TemporaryFolder folder;
  for (int i = 0; i < 50; ++i)
    folder.write(text("a.temporary-", getpid(), '-', i), "of a process with our id");
  write_whole(folder.file("a"), bytes_of("whole"));
  CHECK(folder.read("a") == "whole");
}
