;; A loop of memory.fill over 1 MiB: nearly all time is spent in the host's code.
(module
  (memory (export "memory") 16)
  (func (export "_start")
    (loop $again
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576))
      (br $again))))
