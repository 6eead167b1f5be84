// A small GPU on the host: enough of CUDA to run the kernels of xpnn, one block after the other.
//
// Threads of a block are fibers, which a scheduler resumes in a chosen order and which give way at a barrier or at an
// exchange within their warp.  What a GPU leaves undefined is an error here: a barrier or an exchange that not all
// threads reach, a lane that asks for another partner than the others, a warp that is not whole.  A kernel that
// forgets a barrier gives other bits in another order.
//
// With TOGETHER, all blocks of a grid run at once, each in a thread of the system, so that they may wait for each other.

#include <atomic>
#include <csetjmp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>
#include <ucontext.h>

#define __global__
#define __device__ static
#define __forceinline__ inline
#ifdef TOGETHER
#define PER_BLOCK static thread_local
#else
#define PER_BLOCK static
#endif
#define __shared__ PER_BLOCK
#define __launch_bounds__(...)

struct Dimensions {
  unsigned x, y, z;
};
static Dimensions gridDim, blockDim;
PER_BLOCK Dimensions blockIdx, threadIdx;

namespace shim {

enum State { READY, AT_BARRIER, AT_EXCHANGE, DONE };
enum Order { FORWARD, REVERSE, MIXED };

struct Fiber {
  ucontext_t context;
  jmp_buf at;
  std::vector<char> stack;
  Dimensions index;
  State state;
  bool begun;
  float value;
  int partner;
  unsigned mask;
};

PER_BLOCK std::vector<Fiber> fibers;
PER_BLOCK Fiber* current;
PER_BLOCK jmp_buf scheduler;
static void (*body)();
PER_BLOCK std::string problem;
static bool direct;  // threads without fibers: for kernels in which no thread waits

static void give_way() {
  if (!_setjmp(current->at)) _longjmp(scheduler, 1);
}

static std::atomic<bool> failed;  // in some block

// What a thread does that waits for another block; where that has failed, it gives up.
static void wait() {
  sched_yield();
  if (!failed) return;
  problem = "another block has failed";
  current->state = DONE;
  _longjmp(scheduler, 1);
}

static void begin() {
  body();
  current->state = DONE;
  _longjmp(scheduler, 1);
}

static void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx = fiber.index;
  if (_setjmp(scheduler)) return;
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  setcontext(&fiber.context);
}

static bool fail(const char* why) {
  problem = why;
  return false;
}

// Let all fibers go on that wait for something which has come about; false if there are none, or rules are broken.
static bool release(size_t count) {
  size_t waiting = 0, done = 0;
  for (size_t i = 0; i < count; i++) waiting += fibers[i].state == AT_BARRIER, done += fibers[i].state == DONE;
  if (done == count) return false;
  if (waiting == count) {
    for (size_t i = 0; i < count; i++) fibers[i].state = READY;
    return true;
  }
  bool released = false;
  for (size_t first = 0; first < count; first += 32) {
    size_t here = 0;
    for (size_t i = first; i < first + 32; i++) here += fibers[i].state == AT_EXCHANGE;
    if (here == 0) continue;
    if (here < 32) return fail("an exchange that not all lanes of a warp reach");
    float values[32];
    for (size_t k = 0; k < 32; k++) {
      const Fiber& fiber = fibers[first + k];
      if (fiber.partner != fibers[first].partner) return fail("lanes of a warp that exchange with other partners");
      if (fiber.mask != 0xffffffffu) return fail("an exchange among some lanes of a warp");
      values[k] = fibers[first + (k ^ fiber.partner)].value;
    }
    for (size_t k = 0; k < 32; k++) fibers[first + k].value = values[k], fibers[first + k].state = READY;
    released = true;
  }
  return released || fail("a barrier that not all threads of a block reach");
}

static size_t place(size_t i, size_t count, int order) {
  if (order == REVERSE) return count - 1 - i;
  return order == MIXED ? (i * 7919 + 13) % count : i;  // 7919 is prime and divides no size that occurs
}

static bool run_block(size_t count, int order) {
  if (direct) {
    for (size_t i = 0; i < count; i++) {
      threadIdx = fibers[place(i, count, order)].index;
      body();
      if (!problem.empty()) return false;
    }
    return true;
  }
  for (size_t i = 0; i < count; i++) {
    Fiber& fiber = fibers[i];
    fiber.state = READY, fiber.begun = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, begin, 0);
  }
  do {
    for (size_t i = 0; i < count; i++) {
      Fiber& fiber = fibers[place(i, count, order)];
      if (fiber.state == READY) resume(fiber);
    }
  } while (release(count));
  return problem.empty();
}

// How a parameter is called in a signature: pointers by what they point to, numbers by what they are.
template <class T> struct Letter;
template <> struct Letter<const float*> { static const char value = 'F'; };
template <> struct Letter<float*> { static const char value = 'F'; };
template <> struct Letter<const int*> { static const char value = 'I'; };
template <> struct Letter<int*> { static const char value = 'I'; };
template <> struct Letter<const long long*> { static const char value = 'L'; };
template <> struct Letter<const unsigned char*> { static const char value = 'B'; };
template <> struct Letter<int> { static const char value = 'i'; };
template <> struct Letter<float> { static const char value = 'f'; };
template <> struct Letter<long long> { static const char value = 'l'; };

template <class... A> std::string signature(void (*)(A...)) { return std::string{Letter<A>::value...}; }

template <class... A, size_t... I> void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(args[I])...);
}

static void** arguments;

template <auto kernel> void bound() {
  [&]<class... A>(void (*f)(A...)) { call(f, arguments, std::index_sequence_for<A...>()); }(kernel);
}

static void make_fibers(size_t count, Dimensions block) {
  if (fibers.size() < count) fibers.resize(count);
  for (size_t i = 0; i < count; i++) {
    if (fibers[i].stack.empty()) fibers[i].stack.resize(1 << 15);
    fibers[i].index = {(unsigned)(i % block.x), (unsigned)(i / block.x % block.y), (unsigned)(i / block.x / block.y)};
  }
}

static bool launch(void (*thread)(), Dimensions grid, Dimensions block, void** args, int order) {
  size_t count = (size_t)block.x * block.y * block.z;
  problem.clear();
  if (count == 0 || count > 1024 || count % 32) return fail("a block that is not made of whole warps, or too large");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return fail("a grid that no GPU takes");
  gridDim = grid, blockDim = block, body = thread, arguments = args;
  size_t total = (size_t)grid.x * grid.y * grid.z;
  auto run = [=](size_t k) {
    size_t b = order == FORWARD ? k : total - 1 - k;
    blockIdx = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
    return run_block(count, order);
  };
#ifdef TOGETHER
  failed = false;
  std::vector<std::string> problems(total);
  std::vector<std::thread> blocks;
  for (size_t k = 0; k < total; k++)
    blocks.emplace_back([&, k] {
      make_fibers(count, block);
      problem.clear();
      if (!run(k)) failed = true, problems[k] = problem;
    });
  for (auto& one : blocks) one.join();
  for (auto& one : problems)
    if (!one.empty()) problem = one;
  return problem.empty();
#else
  make_fibers(count, block);
  for (size_t k = 0; k < total; k++)
    if (!run(k)) return false;
  return true;
#endif
}

}  // namespace shim

static void __syncthreads() {
  if (shim::direct) {
    shim::problem = "a barrier in a kernel that was said to have none";
    return;
  }
  shim::current->state = shim::AT_BARRIER;
  shim::give_way();
}

static float __shfl_xor_sync(unsigned mask, float value, int partner) {
  if (shim::direct) {
    shim::problem = "an exchange in a kernel that was said to have none";
    return value;
  }
  shim::current->state = shim::AT_EXCHANGE;
  shim::current->value = value, shim::current->partner = partner, shim::current->mask = mask;
  shim::give_way();
  return shim::current->value;
}

#define WAITING shim::wait()
static int atomicAdd(int* at, int x) { return __atomic_fetch_add(at, x, __ATOMIC_SEQ_CST); }
static void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

#define KERNEL(name)                                                   \
  if (!std::strcmp(which, #name)) {                                    \
    letters = shim::signature(name);                                   \
    thread = shim::bound<name>;                                        \
  }
