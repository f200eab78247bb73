;; memory.fill that ends one byte beyond the memory.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (memory.fill (i32.const 65529) (i32.const 0) (i32.const 8))))
