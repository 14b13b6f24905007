// What the backend `remote` is for: whoever touches its memory from the host is found.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "accrue/core/map.h"
#include "remote/training.h"

namespace accrue::test {
namespace {

/// The signal that ends a process which runs this; 0: none.
template <class F>
int signal_of(const F& body) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

struct Double {
  template <class T>
  void operator()(T& x) const {
    x += x;
  }
};

}  // namespace

TEST_CASE("host code that reads or writes remote memory crashes; kernels do not") {
  const Tensor tensor = Tensor::of<float>({2}, std::vector<float>{1, 2}, remote());
  const auto* numbers = static_cast<const volatile float*>(tensor.in().data);
  CHECK(signal_of([&] { (void)*numbers; }) == SIGSEGV);
  CHECK(signal_of([&] { *const_cast<volatile float*>(numbers) = 1; }) == SIGSEGV);
  CHECK(signal_of([&] { (void)tensor.to_vector(); }) == 0);
  CHECK(tensor.to_vector() == Numbers{1, 2});
}

TEST_CASE("kernels on remote refuse host memory, which a GPU could not read") {
  const Tensor here = Tensor::of<float>({2}, std::vector<float>{1, 2}, Device::reference());
  Tensor there({2}, DType::f32, remote());
  const std::string reason = message_of<BadArgument>([&] {
    launch(remote(), kernel::Copy{here.in(), there.out(), Write::set});
  });
  CHECK_MESSAGE(contains(reason, "host memory"), reason);
}

TEST_CASE("data() and formulas of one's own say where they work") {
  Tensor tensor = Tensor::of<float>({2}, std::vector<float>{1, 2}, remote());
  const std::string data = message_of<BadArgument>([&] { tensor.data<float>(); });
  CHECK_MESSAGE((contains(data, "[tensor]") && contains(data, "to_vector()")), data);
  const std::string own = message_of<BadArgument>([&] { map(Double{}, remote(), {tensor.out()}); });
  CHECK_MESSAGE((contains(own, "[map]") && contains(own, "on the host")), own);
  map(fold::Add{}, remote(), {tensor.out()}, {tensor.in()});  // one that backends have
  CHECK(tensor.to_vector() == Numbers{2, 4});
}

TEST_CASE("bytes move to and from remote, also through views") {
  const std::vector<int32_t> ids{1, 2, 3, 4, 5, 6};
  Tensor there = ids_of({2, 3}, ids, remote());
  CHECK(there.to(Device::cpu()).to_vector() == Numbers{1, 2, 3, 4, 5, 6});
  CHECK(there.transpose(0, 1).to(Device::cpu()).to_vector() == Numbers{1, 4, 2, 5, 3, 6});
  Tensor column = there.slice(1, 1, 1);
  const std::vector<int32_t> two{8, 9};
  column.copy_from_host(two.data());
  CHECK(there.to_vector() == Numbers{1, 8, 3, 4, 9, 6});
  CHECK(there.to(Device::cpu()).to(remote()).to_vector() == Numbers{1, 8, 3, 4, 9, 6});
}

TEST_CASE("loaders fill remote memory with the batches of any device, and know their counts") {
  const auto batch = [](Device device) {
    TokenLoader loader(Training::tokens(),
                       {.context = 6, .batch = 5, .seed = Seed{3}, .device = device});
    loader.next();
    return loader.next();
  };
  const TokenBatch here = batch(Device::reference()), there = batch(remote());
  CHECK(bits_of(there.tokens) == bits_of(here.tokens));
  CHECK(bits_of(there.targets) == bits_of(here.targets));
  CHECK(there.indices == here.indices);
  const int64_t before = transfers().to_host;
  CHECK(there.slice(1, 3).count() == 18);
  CHECK(transfers().to_host == before);
  const TokenBatch padded = token_batch(tiny_gpt(), 2, remote(), 1, {2, 3});
  CHECK(padded.count() == 5);  // read
  CHECK(transfers().to_host > before);
}

}  // namespace accrue::test
