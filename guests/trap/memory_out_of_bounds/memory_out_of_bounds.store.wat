;; Stores beyond the end of memory.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 65536) (i32.const 1))))
