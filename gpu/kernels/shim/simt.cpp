// Fibers and their scheduling; see simt.h.
#include "simt.h"

namespace simt {
thread_local Index thread_index, block_index, block_size, grid_size;
thread_local Runner runner;
static constexpr size_t STACK_BYTES = 64 << 10;

#if defined(__x86_64__)
// Saves what a call must keep on this stack, and goes on from what lies on the other.
extern "C" void simt_switch(void **save, void *load);
asm(R"(
.text
.globl simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");
#endif

Runner::~Runner() {
#if SIMT_TSAN
    for (Context &fiber : fibers) __tsan_destroy_fiber(fiber.tsan_fiber);
#endif
    for (char *stack : stacks) free(stack);
}

void Runner::switch_to(Context &from, Context &to) {
#if SIMT_TSAN
    from.tsan_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__x86_64__)
    simt_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.registers, &to.registers);
#endif
}

void Runner::prepare(unsigned count) {
    while (stacks.size() < count) {
        stacks.push_back((char *)aligned_alloc(64, STACK_BYTES));
        if (!stacks.back()) abort();
        fibers.emplace_back();
#if SIMT_TSAN
        fibers.back().tsan_fiber = __tsan_create_fiber(0);
#endif
    }
    for (unsigned i = 0; i < count; i++) {
#if defined(__x86_64__)
        // What simt_switch pops: six registers, where to go, and a return address that is never used.
        uint64_t *stack = (uint64_t *)(stacks[i] + STACK_BYTES);
        *--stack = 0;
        *--stack = (uint64_t)(void *)fiber_main;
        for (int saved = 0; saved < 6; saved++) *--stack = 0;
        fibers[i].stack_pointer = stack;
#else
        getcontext(&fibers[i].registers);
        fibers[i].registers.uc_stack.ss_sp = stacks[i];
        fibers[i].registers.uc_stack.ss_size = STACK_BYTES;
        fibers[i].registers.uc_link = nullptr;
        makecontext(&fibers[i].registers, (void (*)())fiber_main, 0);
#endif
    }
    threads = live = count;
    deadlock = false;
    block.waiting.clear();
    warps.resize((count + 31) / 32);
    for (Meeting &warp : warps) warp.waiting.clear();
    lane_values.assign(warps.size() * 32, 0);
    ready_head = 0;
    ready.resize(count);
    for (unsigned i = 0; i < count; i++) ready[i] = i;
}

// xorshift64*; never 0.
uint64_t Runner::draw() {
    random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
    return random * 0x2545F4914F6CDD1Dull >> 32;
}

// Goes on with another fiber, or home if the block is over or nobody can run.
void Runner::run_next(Context &from) {
    if (ready_head == ready.size()) {
        deadlock = live > 0;
        switch_to(from, home);
        return;
    }
    if (random) std::swap(ready[ready_head], ready[ready_head + draw() % (ready.size() - ready_head)]);
    current = ready[ready_head++];
    if (ready_head > 4096) {
        ready.erase(ready.begin(), ready.begin() + (std::ptrdiff_t)ready_head);
        ready_head = 0;
    }
    thread_index = {current, 0, 0};
    if (&from != &fibers[current]) switch_to(from, fibers[current]);
}

bool Runner::run_block(unsigned count) {
    prepare(count);
#if SIMT_TSAN
    __tsan_release(this);
#endif
    run_next(home);
#if SIMT_TSAN
    __tsan_acquire(this);
#endif
    return !deadlock;
}

void Runner::fiber_main() {
#if SIMT_TSAN
    __tsan_acquire(&runner);
#endif
    runner.kernel(runner.args);
#if SIMT_TSAN
    __tsan_release(&runner);
#endif
    runner.live--;
    runner.run_next(runner.fibers[runner.current]);
    abort();  // nobody goes on with a fiber that is over
}

void Runner::meet(Meeting &meeting, unsigned size) {
    const unsigned me = current;
#if SIMT_TSAN
    __tsan_release(&meeting);
#endif
    if (meeting.waiting.size() + 1 == size) {
        ready.insert(ready.end(), meeting.waiting.begin(), meeting.waiting.end());
        meeting.waiting.clear();
    } else {
        meeting.waiting.push_back(me);
        run_next(fibers[me]);
    }
#if SIMT_TSAN
    __tsan_acquire(&meeting);
#endif
}

void Runner::maybe_hand_over() {
    if (!random || draw() % 8) return;
    const unsigned me = current;
    ready.push_back(me);
    run_next(fibers[me]);
}
}  // namespace simt
