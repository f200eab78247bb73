;; call_indirect without parameters of a function that has one.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (elem (i32.const 0) func $one_parameter)
  (func $one_parameter (param i32))
  (func (export "_start")
    (call_indirect $t (i32.const 0))))
