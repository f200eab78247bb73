;; An endless loop in the start function, while the module is instantiated.
(module
  (memory (export "memory") 1)
  (func $start
    (loop $again
      (br $again)))
  (start $start)
  (func (export "_start")))
