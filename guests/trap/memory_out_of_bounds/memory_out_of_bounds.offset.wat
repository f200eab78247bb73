;; Address plus offset is beyond 32 bits: a sum that wraps would land inside the memory.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (i32.load offset=0xffffffff (i32.const 16)))))
