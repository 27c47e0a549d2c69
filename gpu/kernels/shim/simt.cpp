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
    block.count = ready_head = ready_count = 0;
    for (Meeting &warp : warps) warp.count = 0;
    for (unsigned i = 0; i < count; i++) add_ready(i);
}

// xorshift64*; never 0.
uint64_t Runner::draw() {
    random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
    return random * 0x2545F4914F6CDD1Dull >> 32;
}

// Goes on with another fiber, or home if the block is over or nobody can run.
void Runner::run_next(Context &from) {
    if (ready_count == 0) {
        deadlock = live > 0;
        switch_to(from, home);
        return;
    }
    unsigned short &head = ready[ready_head];
    if (random) std::swap(head, ready[(ready_head + draw() % ready_count) % BLOCK_THREADS_MAX]);
    current = head;
    ready_head = (ready_head + 1) % BLOCK_THREADS_MAX, ready_count--;
    thread_index = {current, 0, 0};
    if (&from != &fibers[current]) switch_to(from, fibers[current]);
}

bool Runner::run_block(unsigned count) {
    prepare(count);
#if SIMT_TSAN
    __tsan_release(&home);
#endif
    run_next(home);
#if SIMT_TSAN
    __tsan_acquire(&live);
#endif
    return !deadlock;
}

void Runner::fiber_main() {
#if SIMT_TSAN
    __tsan_acquire(&runner.home);
#endif
    runner.kernel(runner.args);
#if SIMT_TSAN
    __tsan_release(&runner.live);
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
    if (meeting.count + 1 == size) {
        for (unsigned i = 0; i < meeting.count; i++) add_ready(meeting.waiting[i]);
        meeting.count = 0;
    } else {
        meeting.waiting[meeting.count++] = (unsigned short)me;
        run_next(fibers[me]);
    }
#if SIMT_TSAN
    __tsan_acquire(&meeting);
#endif
}

void Runner::maybe_hand_over() {
    if (!random || draw() % 8) return;
    const unsigned me = current;
    add_ready(me);
    run_next(fibers[me]);
}
}  // namespace simt
