;; memory.copy whose source ends one byte beyond the memory.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (memory.copy (i32.const 0) (i32.const 65529) (i32.const 8))))
