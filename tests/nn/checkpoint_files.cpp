// A folder of checkpoints: names, order, formats, leftovers, and disks that refuse. Long: these are
// the cases that share a folder; damage to a file is checkpoint_damage.cpp's.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <csignal>
#include <set>

#include "accrue/core/error.h"
#include "accrue/core/file.h"
#include "accrue/core/kernels.h"
#include "accrue/core/mode.h"
#include "accrue/nn/checkpoint_file.h"
#include "nn/checkpoint_run.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::Run;
using testing::TemporaryFolder;

namespace {

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

/// No file may grow beyond `bytes` while this lives: stands for a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

void write_format(const std::string& path, const char* version) {
  const Tensor one = Tensor::scalar(1, DType::f32, Device::cpu());
  const SafetensorsImage image({{"x", one}},
                               {{checkpoint::format_key, version},
                                {checkpoint::checksum_key, checkpoint::checksum_placeholder()}});
  std::vector<std::byte> bytes(image.bytes());
  image.copy(bytes.data());
  checkpoint::write_sealed(path, bytes);
}

}  // namespace

TEST_CASE("saves within one step are ordered by micro-batch, and the next step comes after them") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  for (const auto& [step, micro] : {std::pair(2, 0), {2, 3}, {2, 10}}) {
    run.extras.number = 100 * step + micro;
    run.save(step, micro);
  }
  CHECK(names_in(folder.file("run")) ==
        std::set<std::string>{"step-2-micro-3.safetensors", "step-2-micro-10.safetensors"});
  Run other(folder.file("run"), 8, 2);
  REQUIRE(other.checkpoint.load());
  CHECK(other.extras.number == 210);
  CHECK_THROWS_AS(Run(folder.file("run")).checkpoint.save(Step{2}, MicroStep{9}), BadOrder);
  other.save(3);
  CHECK(names_in(folder.file("run")) ==
        std::set<std::string>{"step-2-micro-10.safetensors", "step-3.safetensors"});
  CHECK(run.checkpoint.path(Step{4}) == folder.file("run/step-4.safetensors"));
  CHECK(run.checkpoint.path(Step{4}, MicroStep{1}) ==
        folder.file("run/step-4-micro-1.safetensors"));
}

TEST_CASE(
    "after a cycle that was skipped the same step begins again, and its later edges are gone") {
  const TemporaryFolder folder;
  Run run(folder.file("run")), other(folder.file("run"), 8, 2);
  run.save(4, 3);
  run.save(4, 5);  // then the cycle's gradient was not finite: step 4 once more
  {
    const SmallDisk disk(1 << 12);
    run.checkpoint.save(Step{4});
    CHECK_THROWS_AS(run.checkpoint.wait(), Failure);
  }
  run.extras.number = 1;
  run.save(4, 2);
  CHECK(names_in(folder.file("run")) == std::set<std::string>{"step-4-micro-2.safetensors"});
  REQUIRE(other.checkpoint.load());
  CHECK(other.extras.number == 1);
  other.save(4, 1);  // as good as saved by it
  CHECK_THROWS_AS(Run(folder.file("run")).checkpoint.save(Step{4}), BadOrder);
}

TEST_CASE("files of other names are no checkpoints and stay") {
  const TemporaryFolder folder;
  std::set<std::string> names{"step-9.safetensors.old",
                              "step-09.safetensors",
                              "step--9.safetensors",
                              "step-9-micro-0.safetensors",
                              "step-.safetensors",
                              "step-9-micro-.safetensors",
                              "step-9-micro-x.safetensors",
                              "notes",
                              "step-99999999999999999999.safetensors"};
  for (const std::string& name : names) folder.write(name, "mine");
  Run run(folder.path().string());
  CHECK_FALSE(run.checkpoint.exists());
  CHECK_FALSE(run.checkpoint.load());
  run.save(1);
  names.insert("step-1.safetensors");
  CHECK(names_in(folder.path().string()) == names);
}

TEST_CASE("a save holds the numbers of its moment, whatever changes while it is written") {
  const TemporaryFolder folder;
  Run run(folder.file("run")), loaded(folder.file("run"), 8, 2);
  for (int64_t step = 1; step <= 20; ++step) {
    run.step();
    const std::vector<double> then = run.numbers();
    run.checkpoint.save(Step{step});
    run.step();
    run.checkpoint.wait();
    REQUIRE(loaded.checkpoint.load());
    CHECK(loaded.numbers() == then);
  }
}

TEST_CASE("what a write fails with is thrown by the next save, which has begun, or by wait()") {
  const TemporaryFolder folder;
  const std::string below = folder.write("occupied", "a file") + "/run";
  Run run(below);
  CHECK_THROWS_AS(run.checkpoint.make_folder(), Failure);
  run.checkpoint.save(Step{1});
  const std::string first = message_of<Failure>([&] { run.checkpoint.save(Step{2}); });
  CHECK(contains(first, below + "/step-1.safetensors"));
  CHECK(contains(first, "Not a directory"));
  CHECK(contains(message_of<Failure>([&] { run.checkpoint.wait(); }), "step-2.safetensors"));
  run.checkpoint.wait();                             // said once
  std::filesystem::remove(folder.file("occupied"));  // the disk works again
  run.save(3);
  CHECK(names_in(below) == std::set<std::string>{"step-3.safetensors"});

  const std::vector<double> before = run.numbers();
  CHECK_FALSE(Run(folder.file("none")).checkpoint.load());
  CHECK(run.checkpoint.load());
  CHECK(run.numbers() == before);
}

TEST_CASE("a folder that cannot be read is an error, not a folder without checkpoints") {
  const TemporaryFolder folder;
  // A link to itself stands for it: the tests may run as root, who may read all.
  std::filesystem::create_directory_symlink(folder.file("loop"), folder.file("loop"));
  const std::string message =
      message_of<Failure>([&] { (void)Run(folder.file("loop")).checkpoint.load(); });
  CHECK_MESSAGE((contains(message, "loop") && contains(message, "can be read")), message);
}

TEST_CASE("a full disk leaves the files that were there, and serves again once it has room") {
  const TemporaryFolder folder;
  Run run(folder.file("run")), loaded(folder.file("run"), 8, 2);
  run.save(1);
  const std::string whole = folder.read("run/step-1.safetensors");
  run.step();
  {
    const SmallDisk disk(1 << 12);
    run.checkpoint.save(Step{2});
    CHECK(contains(message_of<Failure>([&] { run.checkpoint.wait(); }), "File too large"));
    run.checkpoint.wait();  // said once
    run.checkpoint.save(Step{3});
    CHECK(names_in(folder.file("run")) == std::set<std::string>{"step-1.safetensors"});
    CHECK(contains(message_of<Failure>([&] { run.checkpoint.wait(); }), "step-3.safetensors"));
  }
  CHECK(folder.read("run/step-1.safetensors") == whole);
  run.save(4);
  REQUIRE(loaded.checkpoint.load());
  CHECK(loaded.numbers() == run.numbers());
}

TEST_CASE("a part without numbers is refused by name, and nothing is written") {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.save(1);
  run.extras.tensor = Tensor();
  CHECK(contains(message_of<BadArgument>([&] { run.checkpoint.save(Step{2}); }), "extras.tensor"));
  CHECK(names_in(folder.file("run")) == std::set<std::string>{"step-1.safetensors"});
}

TEST_CASE("what a killed save left is removed by the next save and by load; a living one's stays") {
  const TemporaryFolder folder;
  Run run(folder.path().string());
  const std::string name = "step-7.safetensors.temporary-1-0",
                    mine = "step-7.safetensors.temporary";
  folder.write(mine, "no number at its end");
  folder.write(name, "half a file");
  CHECK_FALSE(run.checkpoint.load());
  CHECK(names_in(folder.path().string()) == std::set<std::string>{mine});
  folder.write(name, "half a file");
  run.save(1);
  CHECK(names_in(folder.path().string()) == std::set<std::string>{mine, "step-1.safetensors"});

  folder.write(name, "half a file");
  const int writer = open(folder.file(name).c_str(), O_RDWR);
  REQUIRE(flock(writer, LOCK_EX) == 0);
  CHECK(run.checkpoint.load());
  CHECK(names_in(folder.path().string()).contains(name));
  close(writer);
  CHECK(run.checkpoint.load());
  CHECK_FALSE(names_in(folder.path().string()).contains(name));
}

TEST_CASE("a whole file of another format is an error that names both, not passed over") {
  const TemporaryFolder folder;
  Run run(folder.path().string());
  run.save(1);
  write_format(folder.file("step-2.safetensors"), "3");
  const std::string newer = message_of<BadArgument>([&] { run.checkpoint.load(); });
  CHECK(contains(newer, "expected format 2"));
  CHECK(contains(newer, "got format 3"));
  CHECK(contains(newer, "step-2.safetensors"));
  // The first format had another checksum and did not name itself.
  write_safetensors(folder.file("step-2.safetensors"),
                    {{"x", Tensor::scalar(1, DType::f32, Device::cpu())}},
                    {{checkpoint::format_1_key, "0"}});
  CHECK(contains(message_of<BadArgument>([&] { run.checkpoint.load(); }), "got format 1"));
  write_format(folder.file("step-2.safetensors"), checkpoint::format);
  CHECK(contains(message_of<BadArgument>([&] { run.checkpoint.load(); }), "model."));
  // Any other safetensors file is no checkpoint, nor is one that only says that it is.
  using Metadata = std::map<std::string, std::string>;
  for (const Metadata& claims :
       {Metadata{},
        Metadata{{checkpoint::format_1_key, "0"}, {checkpoint::format_key, checkpoint::format}}}) {
    write_safetensors(folder.file("step-2.safetensors"),
                      {{"x", Tensor::scalar(1, DType::f32, Device::cpu())}}, claims);
    REQUIRE(run.checkpoint.load());
    REQUIRE(run.checkpoint.warnings().size() == 1);
    CHECK(contains(run.checkpoint.warnings()[0], "step-2.safetensors"));
  }
}

TEST_CASE("a cycle under way with another accumulator is refused, naming both") {
  const TemporaryFolder folder;
  Run kahan(folder.file("run"), 8, 1, "kahan"), plain(folder.file("run"), 8, 2, "f32");
  kahan.part_of_cycle(2);
  kahan.save(0, 2);
  const std::vector<double> before = plain.numbers();
  const std::string message = message_of<BadArgument>([&] { plain.checkpoint.load(); });
  CHECK_MESSAGE((contains(message, "f32") && contains(message, "kahan")), message);
  CHECK(plain.numbers() == before);
}

TEST_CASE("a large file is sealed as a whole, and damage in its last byte shows") {
  const TemporaryFolder folder;
  const std::string path = folder.file("step-1.safetensors");
  Tensor large({3 * int64_t{1} << 20}, DType::f32, Device::cpu());
  launch(Device::cpu(), kernel::Fill{large.out(), 1});
  const SafetensorsImage image({{"x", large}},
                               {{checkpoint::format_key, checkpoint::format},
                                {checkpoint::checksum_key, checkpoint::checksum_placeholder()}});
  std::vector<std::byte> bytes(image.bytes());
  REQUIRE(bytes.size() > 8 << 20);  // more than is handed to the disk at once
  image.copy(bytes.data());
  {
    const SmallDisk disk(9 << 20);
    CHECK_THROWS_AS(checkpoint::write_sealed(path, bytes), Failure);
    CHECK(std::filesystem::is_empty(folder.file("")));
  }
  checkpoint::write_sealed(path, bytes);
  bool other_format = false;
  const SafetensorsFile file = checkpoint::open_verified(path, other_format);
  CHECK(file.file().size() == bytes.size());
  CHECK_THROWS_AS(checkpoint::write_sealed(path, file.file()), BadArgument);  // sealed already

  const std::span<const std::byte> sealed = file.file();
  bytes.assign(sealed.begin(), sealed.end());
  bytes.back() ^= std::byte{1};
  folder.write("step-1.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  CHECK_THROWS_AS(checkpoint::open_verified(path, other_format), BadArgument);
}

TEST_CASE("a part that throws decides before later parts are compared, and nothing changes") {
  struct Picky {
    std::string mine = "a";
    void visit(Visitor& part) {
      std::string stored = mine;
      part("word", stored);
      require(stored == mine, "expected ", stored, ", got ", mine);
    }
  } picky;
  const TemporaryFolder folder;
  Run narrow(folder.file("run"), 8), wide(folder.file("run"), 16);
  Checkpoint(folder.file("run")).part("picky", picky).part("model", narrow.model).save(Step{1});
  picky.mine = "b";
  const std::vector<double> before = wide.numbers();
  Checkpoint checkpoint(folder.file("run"));
  checkpoint.part("picky", picky).part("model", wide.model);
  CHECK(message_of<BadArgument>([&] { checkpoint.load(); }) == "expected a, got b");
  CHECK(picky.mine == "b");
  CHECK(wide.numbers() == before);
}

TEST_CASE("a dry run counts the copy's memory and writes nothing") {
  const TemporaryFolder folder;
  const auto copies = [](bool dry) {
    return host_allocator().use(dry).current[static_cast<int>(Tag::copies)];
  };
  const int64_t real = copies(false);
  Run run(folder.file("run"));
  run.save(1);
  const int64_t used = copies(false) - real;
  CHECK(used >=
        static_cast<int64_t>(std::filesystem::file_size(folder.file("run/step-1.safetensors"))));
  {
    const ModeScope dry(Mode::dry);
    const int64_t none = copies(true);
    Run counted(folder.file("none"));
    counted.checkpoint.save(Step{1});
    CHECK(copies(true) - none == used);
  }
  CHECK_FALSE(std::filesystem::exists(folder.file("none")));
  run.save(2);
  CHECK(copies(false) - real == used);  // the same memory again
}
